"""One version of a Python source as it is compared: its definitions, and where the names of its imports come from."""

from __future__ import annotations

import ast
import textwrap
import warnings
from collections.abc import Iterator
from functools import cached_property
from typing import Final, NamedTuple

from instar.engine.differences.syntax import DEFINITIONS, Definition
from instar.engine.differences.units import LINE, MODULE, Kind, own_lines

from .aliases import origin

STAR: Final = "* of "
"""Stands before the module of an import of all names, among the names that imports bind."""


class Place(NamedTuple):
    """A definition: its kind, its tree, and its own lines, without those of definitions inside of a module or class."""

    kind: Kind
    node: ast.Module | Definition
    text: str
    method: bool


class Source:
    """A parsed version.

    Attributes:
        places: definitions by qualified name, as ``units`` names them; those inside functions are part of these.
        origins: for each name that an import at the top binds, the dotted name that it stands for.

    Raises:
        SyntaxError: it is no Python of this version, nor a part of one that stands further right.
        ValueError, RecursionError, MemoryError: the parser gives up.
    """

    def __init__(self, text: str) -> None:
        self.tree, text = _parsed(text)
        lines = LINE.findall(text)
        self.places: dict[str, Place] = {}
        self.lines = len(lines)
        waiting: list[tuple[str, Kind, ast.Module | Definition]] = [(MODULE, "module", self.tree)]
        while waiting:
            name, kind, node = waiting.pop()
            inner = [] if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) else list(_definitions(node.body))
            count, free = 1, name
            while free in self.places:
                count += 1
                free = f"{name}#{count}"
            self.places[free] = Place(kind, node, own_lines(node, inner, lines), kind == "method")
            prefix = "" if kind == "module" else f"{name}."
            waiting += [(prefix + one.name, _kind(one, kind), one) for one in inner][::-1]
        self.origins = dict(origins_of(self.tree.body))

    @property
    def identifiers(self) -> frozenset[str]:
        """Every name that stands anywhere in the source: of variables, attributes, parameters, definitions."""
        found: set[str] = set()
        for node in ast.walk(self.tree):
            match node:
                case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                    found.add(name)
                case ast.keyword(arg=str(name)):
                    found.add(name)
                case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                    found.add(node.name)
                case ast.alias():
                    found.add(node.asname or node.name.rpartition(".")[2])
        return frozenset(found)

    @property
    def bound(self) -> frozenset[str]:
        """Names that the source itself gives to something: definitions, variables, attributes, parameters."""
        found: set[str] = set()
        for node in ast.walk(self.tree):
            match node:
                case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()) | ast.arg(arg=name):
                    found.add(name)
                case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                    found.add(node.name)
        return frozenset(found)

    @property
    def named_from_outside(self) -> frozenset[str]:
        """Those of ``bound`` that a text may name (``getattr``, ``__all__``): no local variable and no parameter."""
        found: set[str] = set()
        waiting: list[tuple[ast.AST, bool]] = [(self.tree, False)]
        while waiting:
            node, local = waiting.pop()
            match node:
                case ast.Attribute(attr=name, ctx=ast.Store()):
                    found.add(name)
                case ast.Name(id=name, ctx=ast.Store()) if not local:
                    found.add(name)
                case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                    found.add(node.name)
            local = local or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            waiting += ((one, local) for one in ast.iter_child_nodes(node))
        return frozenset(found)

    @property
    def read(self) -> frozenset[str]:
        """Names that the source reads, or lists in ``__all__``."""
        found: set[str] = set()
        for node in ast.walk(self.tree):
            match node:
                case ast.Name(id=name, ctx=ast.Load()):
                    found.add(name)
                case ast.Assign(targets=[ast.Name(id="__all__")], value=value):
                    found.update(str(one.value) for one in ast.walk(value) if isinstance(one, ast.Constant))
        return frozenset(found)

    @cached_property
    def missed(self) -> frozenset[str]:
        """Names that the source reads, of itself or of ``self``, and gives to nothing."""
        of_self = {
            node.attr
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"}
        }
        return (self.read | of_self) - self.bound - frozenset(self.origins)


def _parsed(text: str) -> tuple[ast.Module, str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # An invalid escape in somebody's source is not our caller's warning.
        try:
            return ast.parse(text), text
        except IndentationError:
            text = textwrap.dedent(text.lstrip("\n"))
            return ast.parse(text), text


def _definitions(body: list[ast.stmt]) -> Iterator[Definition]:
    """Definitions of a module or class body, those in its branches included, in the order of the source."""
    for statement in body:
        if isinstance(statement, DEFINITIONS):
            yield statement
            continue
        for field in ("body", "handlers", "orelse", "finalbody", "cases"):
            for inner in getattr(statement, field, ()):
                yield from _definitions(
                    inner.body if isinstance(inner, (ast.ExceptHandler, ast.match_case)) else [inner]
                )


def _kind(node: Definition, holder: Kind) -> Kind:
    if isinstance(node, ast.ClassDef):
        return "class"
    return "method" if holder == "class" else "function"


def origins_of(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    """Gives the names that the imports of a body bind, each with the dotted name that it stands for."""
    for node in body:
        if isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.name if alias.asname else alias.name.partition(".")[0]
                yield alias.asname or name, origin(name)
        elif isinstance(node, ast.ImportFrom) and node.module != "__future__":
            module = "." * node.level + (node.module or "")
            for alias in node.names:
                full = f"{module}{'' if module.endswith('.') else '.'}{alias.name}"
                if alias.name == "*":
                    yield f"{STAR}{module}", full  # no name, and one for each module
                else:
                    yield alias.asname or alias.name, origin(full)
