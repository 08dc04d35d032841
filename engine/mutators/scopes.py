"""Which names could stand at a place in a source: those of its function first, then those of the module."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterable
from difflib import SequenceMatcher

from .source import Function, Source

BUILTINS = frozenset(dir(builtins))


def local_names(source: Source, node: ast.AST) -> list[str]:
    """Names the parameters and variables of the functions around a node, the innermost first, each once."""
    found: dict[str, None] = {}
    function = source.function(node)
    while function is not None:
        arguments = function.args
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
        found.update(dict.fromkeys(argument.arg for argument in every if argument is not None))
        found.update(
            dict.fromkeys(
                inner.id
                for inner in ast.walk(function)
                if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store)
            )
        )
        function = source.function(function)
    return list(found)


def module_names(source: Source) -> list[str]:
    """Names what the module itself binds, in order."""
    found: dict[str, None] = {}
    for statement in source.tree.body:
        match statement:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                found.setdefault(name)
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                found.update(dict.fromkeys((alias.asname or alias.name).partition(".")[0] for alias in names))
            case _:
                found.update(
                    dict.fromkeys(
                        inner.id
                        for inner in ast.walk(statement)
                        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store)
                    )
                )
    return list(found)


def bound_names(source: Source) -> frozenset[str]:
    """Names all that is bound anywhere in the file, and what Python binds itself."""
    found = set(BUILTINS)
    for node in source.nodes():
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
                found.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
            case ast.alias(name=name, asname=alias):
                found.add((alias or name).partition(".")[0])
            case ast.ExceptHandler(name=str(name)):
                found.add(name)
    return frozenset(found)


def by_likeness(name: str, others: Iterable[str]) -> list[tuple[str, float]]:
    """Orders names by how much they are spelled like one, the likest first, each with its ratio in 0..1."""
    ratios = [(other, SequenceMatcher(None, name, other, autojunk=False).ratio()) for other in others if other != name]
    return sorted(ratios, key=lambda pair: (-pair[1], pair[0]))


def enclosing_class(source: Source, function: Function | None) -> ast.ClassDef | None:
    """Gives the class of which a function is a method."""
    at: ast.AST | None = function
    while at is not None and not isinstance(at, ast.ClassDef):
        at = source.parent(at)
    return at
