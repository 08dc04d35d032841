"""The normal form of Python syntax: what stays of a definition when everything cosmetic is taken away.

A definition becomes a list of labels, its syntax tree in preorder. Gone are comments, layout, docstrings, quoting,
`pass` and other statements without effect, the order and grouping of neighbouring imports, the order of keyword
arguments where nobody can see it, and the names of local variables (see ``bindings``).

Type annotations do not count, for they change no behaviour, but where code reads them at run time they do: in class
bodies (dataclasses, msgspec) and on functions under a decorator that is not known to ignore them (typer,
singledispatch).
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Final

from .bindings import Function, Names

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
DEFINITIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_UNSEEN: Final = frozenset({"ctx", "kind", "type_comment", "type_ignores"})
_IGNORE_ANNOTATIONS: Final = frozenset(
    [
        "staticmethod",
        "classmethod",
        "property",
        "abstractmethod",
        "override",
        "final",
        "cache",
        "lru_cache",
        "cached_property",
        "wraps",
        "contextmanager",
        "asynccontextmanager",
        "setter",
        "getter",
        "deleter",
        "fixture",
    ]
)


class NormalForm:
    """Labels of one definition or module body, and the definitions found inside it.

    Args:
        root: the definition or module.
        method: whether it is a function of a class, whose first parameter nobody names.
        loose: whether parameters are labelled by their place (see ``bindings``).

    Attributes:
        labels: the normalised tree in preorder; ``]`` closes a list.
        found: definitions that are units of their own: of a module or class, left out here; of a function, included.
    """

    def __init__(self, root: ast.Module | Definition, *, method: bool = False, loose: bool = False) -> None:
        self.labels: list[str] = []
        self.found: list[Definition] = []
        self._root = root
        self._method = method
        self._names = Names(root.name if isinstance(root, DEFINITIONS) else None, loose=loose)
        if isinstance(root, ast.Module):
            self._block(root.body, direct=True)
        elif isinstance(root, ast.ClassDef):
            self._class(root)
        else:
            self._function(root)

    # ---- walking -----------------------------------------------------------------------------------------------

    def _visit(self, node: ast.AST) -> None:
        match node:
            case ast.Name():
                self.labels.append(self._names.label(node.id))
            case ast.Constant():
                self.labels.append(f"{type(node.value).__name__} {node.value!r}")
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                self._inner(node)
            case ast.Lambda():
                self._function(node)
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                self._comprehension(node)
            case ast.AnnAssign() if not self._names.in_class:
                if node.value is not None:
                    self._visit(ast.Assign(targets=[node.target], value=node.value))
            case ast.Return(value=ast.Constant(value=None)):
                self.labels += ("Return", "-")
            case ast.Call() if len(node.keywords) > 1 and all(_is_plain(keyword) for keyword in node.keywords):
                self._fields(node, keywords=sorted(node.keywords, key=lambda keyword: str(keyword.arg)))
            case ast.Global() | ast.Nonlocal():
                self.labels += (type(node).__name__, *sorted(map(self._names.label, node.names)), "]")
            case ast.alias():
                bound = node.asname or node.name.partition(".")[0]
                self.labels += ("alias", node.name, self._names.label(bound))
            case ast.ExceptHandler() | ast.MatchAs() | ast.MatchStar():
                self._fields(node, name=self._names.label(node.name) if node.name else None)
            case ast.MatchMapping():
                self._fields(node, rest=self._names.label(node.rest) if node.rest else None)
            case _:
                self._fields(node)

    def _fields(self, node: ast.AST, **instead: object) -> None:
        self.labels.append(type(node).__name__)
        for field in node._fields:
            if field in _UNSEEN:
                continue
            value = instead.get(field, getattr(node, field, None))
            if isinstance(value, ast.AST):
                self._visit(value)
            elif isinstance(value, list):
                if field in {"body", "orelse", "finalbody"}:
                    self._block(value)
                else:
                    self._list(value)
            else:
                self.labels.append("-" if value is None else f"={value}")

    def _list(self, items: Sequence[object]) -> None:
        for item in items:
            if isinstance(item, ast.AST):
                self._visit(item)
            else:  # None stands for an absent key or default, a string for a keyword pattern.
                self.labels.append(f"={item}")
        self.labels.append("]")

    def _block(self, body: Sequence[ast.stmt], direct: bool = False) -> None:
        """Labels statements; ``direct`` for those of a module or class itself, whose definitions have no order."""
        told = (statement for statement in body if not _is_void(statement))
        for imports, run in groupby(told, key=lambda statement: isinstance(statement, (ast.Import, ast.ImportFrom))):
            for statement in _split_imports(run) if imports else run:
                if direct and isinstance(statement, DEFINITIONS):
                    self.found.append(statement)
                else:
                    self._visit(statement)
        self.labels.append("]")

    # ---- definitions -------------------------------------------------------------------------------------------

    def _inner(self, node: Definition) -> None:
        inside = isinstance(self._root, (ast.FunctionDef, ast.AsyncFunctionDef))
        if not inside or self._names.depth == 1:
            self.found.append(node)
        if not inside:
            self.labels += ("Def", f"={node.name}")
            return
        self.labels.append(self._names.label(node.name))
        if isinstance(node, ast.ClassDef):
            self._class(node)
        else:
            self._function(node)

    def _class(self, node: ast.ClassDef) -> None:
        self.labels.append("ClassDef")
        self._list(node.decorator_list)
        self._list([base for base in node.bases if not (isinstance(base, ast.Name) and base.id == "object")])
        self._list(node.keywords)
        with self._names.in_class_of(node):
            self._block(node.body, direct=node is self._root)

    def _function(self, node: Function) -> None:
        self.labels.append(type(node).__name__)
        decorators = [] if isinstance(node, ast.Lambda) else node.decorator_list
        self._list(decorators)
        annotated = any(_last_name(decorator) not in _IGNORE_ANNOTATIONS for decorator in decorators)
        self._list(_annotations(node) if annotated else [])
        self._list(node.args.defaults)
        self._list(node.args.kw_defaults)
        receives = self._method and node is self._root and "staticmethod" not in map(_last_name, decorators)
        with self._names.in_function(node, method=receives):
            for arguments in (node.args.posonlyargs, node.args.args, node.args.kwonlyargs):
                self.labels += (self._names.label(argument.arg) for argument in arguments)
                self.labels.append("]")
            for rest in (node.args.vararg, node.args.kwarg):
                self.labels.append(self._names.label(rest.arg) if rest else "-")
            if isinstance(node, ast.Lambda):
                self._visit(node.body)
            else:
                self._block(node.body)

    def _comprehension(self, node: Comprehension) -> None:
        generators = node.generators
        self.labels.append(type(node).__name__)
        # The first iterable is evaluated outside of the comprehension's own scope.
        self._visit(generators[0].iter)
        with self._names.in_comprehension(generators):
            for index, generator in enumerate(generators):
                if index:
                    self._visit(generator.iter)
                self._visit(generator.target)
                self._list(generator.ifs)
                self.labels.append("async" if generator.is_async else "-")
            for part in (node.key, node.value) if isinstance(node, ast.DictComp) else (node.elt,):
                self._visit(part)


def _is_void(statement: ast.stmt) -> bool:
    """Says whether a statement does nothing: `pass`, a docstring, `...`, the import of annotations."""
    match statement:
        case ast.Pass() | ast.Expr(value=ast.Constant()):
            return True
        case ast.ImportFrom(module="__future__", names=[ast.alias(name="annotations")]):
            return True
    return False


def _split_imports(run: Iterable[ast.stmt]) -> list[ast.stmt]:
    """One import per name, in the order of what is imported."""
    single: list[tuple[str, ast.stmt]] = []
    for statement in run:
        if isinstance(statement, ast.Import):
            single += ((alias.name, ast.Import(names=[alias])) for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom):
            source = "." * statement.level + (statement.module or "")
            for alias in statement.names:
                one = ast.ImportFrom(module=statement.module, names=[alias], level=statement.level)
                single.append((f"{source} {alias.name}", one))
    return [statement for _, statement in sorted(single, key=lambda pair: pair[0])]


def _annotations(node: Function) -> list[ast.expr | None]:
    arguments = node.args
    every = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg)
    returns = None if isinstance(node, ast.Lambda) else node.returns
    return [*(argument.annotation if argument else None for argument in every), returns]


def _last_name(node: ast.expr) -> str:
    target = node.func if isinstance(node, ast.Call) else node
    return target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "")


def _is_plain(keyword: ast.keyword) -> bool:
    """Says whether nobody can see when this keyword argument is evaluated."""
    return keyword.arg is not None and isinstance(keyword.value, (ast.Constant, ast.Name))
