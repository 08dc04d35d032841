"""Every local variable under a name of its own, so that what is said of a name is said of one variable.

`x` in a function, in a function within it and in a comprehension are three variables; the rules that merge or inline
names would take them for one. Parameters keep their names, since callers use them.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from instar.engine.differences.bindings import bound, reads_names

MARK: Final = "~"
"""Stands between a name and its number: no name of Python has it."""
Function = ast.FunctionDef | ast.AsyncFunctionDef
Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


def uniquely_named(root: ast.AST) -> None:
    """Renames the locals of all functions in a tree; of a tree that reads its own names by text, none."""
    if not any(reads_names(node) for node in ast.walk(root)):
        _Renamer().visit(root)


class _Renamer(ast.NodeVisitor):
    def __init__(self) -> None:
        self._scopes: list[tuple[bool, dict[str, str]]] = []
        self._count = 0

    def _name(self, name: str) -> str:
        for depth, (is_class, names) in enumerate(reversed(self._scopes)):
            if name in names and not (depth and is_class):
                return names[name]
        return name

    @contextmanager
    def _scope(self, new: Iterable[str], kept: Iterable[str] = (), *, is_class: bool = False) -> Iterator[None]:
        names = {}
        for name in new:
            self._count += 1
            names[name] = f"{name}{MARK}{self._count}"
        names |= {name: name for name in kept}
        self._scopes.append((is_class, names))
        yield
        self._scopes.pop()

    def _visit_all(self, nodes: Iterable[ast.AST | None]) -> None:
        for node in nodes:
            if node is not None:
                self.visit(node)

    def _function(self, node: Function | ast.Lambda) -> None:
        arguments = node.args
        self._visit_all([*arguments.defaults, *arguments.kw_defaults])
        body = [node.body] if isinstance(node, ast.Lambda) else node.body
        given = {argument.arg for argument in ast.walk(arguments) if isinstance(argument, ast.arg)}
        dotted = {
            alias.name.partition(".")[0]
            for part in body
            for one in ast.walk(part)
            if isinstance(one, ast.Import)
            for alias in one.names
            if "." in alias.name and not alias.asname
        }
        with self._scope([name for name in bound(body) if name not in given | dotted], given | dotted):
            self._visit_all(body)

    def _definition(self, node: Function) -> None:
        self._visit_all(node.decorator_list)
        if self._scopes:
            node.name = self._name(node.name)
        self._function(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._definition(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._definition(node)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._function(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._visit_all([*node.decorator_list, *node.bases, *node.keywords])
        if self._scopes:
            node.name = self._name(node.name)
        with self._scope((), bound(node.body), is_class=True):
            self._visit_all(node.body)

    def _comprehension(self, node: Comprehension) -> None:
        first, *rest = node.generators
        self.visit(first.iter)
        with self._scope(bound(generator.target for generator in node.generators)):
            self._visit_all([first.target, *first.ifs, *rest])
            self._visit_all((node.key, node.value) if isinstance(node, ast.DictComp) else (node.elt,))

    def visit_ListComp(self, node: ast.ListComp) -> None:
        self._comprehension(node)

    def visit_SetComp(self, node: ast.SetComp) -> None:
        self._comprehension(node)

    def visit_DictComp(self, node: ast.DictComp) -> None:
        self._comprehension(node)

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> None:
        self._comprehension(node)

    def visit_Name(self, node: ast.Name) -> None:
        node.id = self._name(node.id)

    def visit_alias(self, node: ast.alias) -> None:
        name = node.asname or node.name
        if self._name(name) != name:
            node.asname = self._name(name)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.name:
            node.name = self._name(node.name)
        self.generic_visit(node)

    def visit_MatchAs(self, node: ast.MatchAs) -> None:
        if node.name:
            node.name = self._name(node.name)
        self.generic_visit(node)

    def visit_MatchStar(self, node: ast.MatchStar) -> None:
        if node.name:
            node.name = self._name(node.name)

    def visit_MatchMapping(self, node: ast.MatchMapping) -> None:
        if node.rest:
            node.rest = self._name(node.rest)
        self.generic_visit(node)

    def visit_Global(self, node: ast.Global) -> None:
        node.names = [self._name(name) for name in node.names]

    def visit_Nonlocal(self, node: ast.Nonlocal) -> None:
        node.names = [self._name(name) for name in node.names]
