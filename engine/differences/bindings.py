"""Which names a scope of Python source binds, and labels for them that do not depend on how locals are called."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Literal

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda

_COMPREHENSIONS: Final = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_OWN_SCOPE: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
_READS_NAMES: Final = frozenset({"locals", "eval", "exec"})
_READS_OWN: Final = frozenset({"vars", "dir"})
"""Builtins that read the names around them only where they are given nothing to read."""


class Names:
    """Labels names, scope by scope.

    A local is labelled by how many other locals were used since its last use (move-to-front coding, Bentley et al.
    1986): a renamed one changes no label, a new one only those next to it. Whatever others may name, parameters,
    attributes of classes and globals, is labelled by itself, and ``itself`` stands for the definition's own name. The
    first parameter of a method is nothing that others may name.

    Args:
        own: the definition's own name.
        loose: whether parameters are labelled by their place, so that a renamed one changes no label.
    """

    def __init__(self, own: str | None, *, loose: bool = False) -> None:
        self._own = own
        self._loose = loose
        self._scopes: list[tuple[Literal["function", "class", "comprehension"], dict[str, int | str]]] = []
        self._recent: list[int] = []
        self._numbers = 0

    @property
    def depth(self) -> int:
        """How many scopes are open."""
        return len(self._scopes)

    @property
    def in_class(self) -> bool:
        """Whether the innermost scope is that of a class."""
        return bool(self._scopes) and self._scopes[-1][0] == "class"

    def label(self, name: str) -> str:
        """Labels one use of a name."""
        for depth, (kind, names) in enumerate(reversed(self._scopes)):
            if name not in names or (depth and kind == "class"):
                continue
            number = names[name]
            if isinstance(number, str):
                return number
            place = self._recent.index(number) if number in self._recent else -1
            if place >= 0:
                del self._recent[place]
            self._recent.insert(0, number)
            return "local new" if place < 0 else f"local {place}"
        return "itself" if name == self._own else f"name {name}"

    @contextmanager
    def in_class_of(self, node: ast.ClassDef) -> Iterator[None]:
        """Opens the scope of a class body, whose names are attributes."""
        self._scopes.append(("class", _by_name(bound(node.body))))
        yield
        self._scopes.pop()

    @contextmanager
    def in_comprehension(self, generators: Sequence[ast.comprehension]) -> Iterator[None]:
        """Opens the scope of a comprehension."""
        targets = bound(generator.target for generator in generators)
        self._scopes.append(("comprehension", self._numbered(targets)))
        yield
        self._scopes.pop()

    @contextmanager
    def in_function(self, node: Function, *, method: bool = False) -> Iterator[None]:
        """Opens the scope of a function, whose parameters keep their names where a caller may use them."""
        body = [node.body] if isinstance(node, ast.Lambda) else node.body
        arguments = node.args
        named = [argument.arg for argument in (*arguments.args, *arguments.kwonlyargs)]
        unnamed = [argument.arg for argument in (*arguments.posonlyargs, arguments.vararg, arguments.kwarg) if argument]
        names = self._numbered((*bound(body), *unnamed))
        names |= self._numbered(named) if isinstance(node, ast.Lambda) else _by_name(named)
        if self._loose:
            names |= {name: f"parameter {place}" for place, name in enumerate(named)}
        if any(reads_names(inner) for part in body for inner in ast.walk(part)):
            names = _by_name(names)  # What reads its own names by text would see a renaming.
        elif method and (first := [*arguments.posonlyargs, *arguments.args][:1]):
            names[first[0].arg] = "receiver"
        self._scopes.append(("function", names))
        yield
        self._scopes.pop()

    def _numbered(self, names: Iterable[str]) -> dict[str, int | str]:
        numbered: dict[str, int | str] = {}
        for name in names:
            self._numbers += 1
            numbered.setdefault(name, self._numbers)
        return numbered


def reads_names(node: ast.AST) -> bool:
    """Says whether a node reads names by text, as `locals()` does."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
        return False
    return node.func.id in _READS_NAMES or (node.func.id in _READS_OWN and not node.args)


def _by_name(names: Iterable[str]) -> dict[str, int | str]:
    """Labels for names that others may use: the names themselves."""
    return {name: f"bound {name}" for name in names}


def bound(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Names that statements bind in their own scope, in order; those declared global or nonlocal are not among them."""
    outside: set[str] = set()
    names: dict[str, None] = {}
    waiting = list(nodes)[::-1]
    while waiting:
        node = waiting.pop()
        match node:
            case ast.Global() | ast.Nonlocal():
                outside.update(node.names)
            case ast.Name(ctx=ast.Store() | ast.Del()):
                names[node.id] = None
            case ast.alias():
                names[node.asname or node.name.partition(".")[0]] = None
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                names[name] = None
            case ast.MatchMapping(rest=str(name)):
                names[name] = None
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                names[node.name] = None
        waiting.extend(_same_scope(node))
    return (name for name in names if name not in outside)


def _same_scope(node: ast.AST) -> Sequence[ast.AST]:
    """Children of a node that bind names in the same scope as it, last first."""
    if isinstance(node, _COMPREHENSIONS):
        return [inner.target for inner in ast.walk(node) if isinstance(inner, ast.NamedExpr)][::-1]
    if isinstance(node, _OWN_SCOPE):
        return []
    return list(ast.iter_child_nodes(node))[::-1]
