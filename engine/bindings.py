"""Which names a scope of Python source binds, and labels for them that do not depend on how locals are called."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Literal

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda

_COMPREHENSIONS: Final = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_OWN_SCOPE: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
_READS_NAMES: Final = frozenset({"locals", "vars", "eval", "exec", "dir"})


class Names:
    """Labels names, scope by scope.

    A local is labelled by how many other locals were used since its last use (move-to-front coding, Bentley et al.
    1986): a renamed one changes no label, a new one only those next to it. Whatever others may name, parameters,
    attributes of classes and globals, is labelled by itself, and ``itself`` stands for the definition's own name.
    """

    def __init__(self, own: str | None) -> None:
        self._own = own
        self._scopes: list[tuple[Literal["function", "class", "comprehension"], dict[str, int | None]]] = []
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
            if number is None:
                return f"bound {name}"
            place = self._recent.index(number) if number in self._recent else -1
            if place >= 0:
                del self._recent[place]
            self._recent.insert(0, number)
            return "local new" if place < 0 else f"local {place}"
        return "itself" if name == self._own else f"name {name}"

    @contextmanager
    def in_class_of(self, node: ast.ClassDef) -> Iterator[None]:
        """Opens the scope of a class body, whose names are attributes."""
        self._scopes.append(("class", dict.fromkeys(bound(node.body))))
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
    def in_function(self, node: Function) -> Iterator[None]:
        """Opens the scope of a function, whose parameters keep their names where a caller may use them."""
        body = [node.body] if isinstance(node, ast.Lambda) else node.body
        arguments = node.args
        named = [argument.arg for argument in (*arguments.args, *arguments.kwonlyargs)]
        unnamed = [argument.arg for argument in (*arguments.posonlyargs, arguments.vararg, arguments.kwarg) if argument]
        names = self._numbered((*bound(body), *unnamed))
        names |= self._numbered(named) if isinstance(node, ast.Lambda) else dict.fromkeys(named)
        if any(isinstance(inner, ast.Name) and inner.id in _READS_NAMES for part in body for inner in ast.walk(part)):
            names = dict.fromkeys(names)  # What reads its own names by text would see a renaming.
        self._scopes.append(("function", names))
        yield
        self._scopes.pop()

    def _numbered(self, names: Iterable[str]) -> dict[str, int | None]:
        numbered: dict[str, int | None] = {}
        for name in names:
            self._numbers += 1
            numbered.setdefault(name, self._numbers)
        return numbered


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
