"""The one form of a definition's meaning: what is left when every rewriting that keeps it is undone.

Two sources that formatters, linters, refactorings or a minifier turn into each other have the same form; a changed
operator, constant, call or branch stays. It rests on what such tools rest on: that builtins are the builtins, that
comparison is ordinary, that text is put together of what can be put together.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Mapping
from typing import Final

from instar.engine.differences.syntax import DEFINITIONS, Definition

from .calls import dotted
from .conditions import order_sides
from .expressions import rewrite
from .flow import flow, function_tail
from .inline import mark_uses, merge_copies
from .loops import without_unused
from .source import STAR, origins_of
from .unique import uniquely_named

ROUNDS: Final = 2
"""How often the rules are applied: some find their pattern only in what others left."""
Function: Final = (ast.FunctionDef, ast.AsyncFunctionDef)
_MESSAGES: Final = frozenset({"debug", "info", "warning", "warn", "error", "exception", "critical", "log"})
_ABSENT: Final = frozenset({"lineno", "col_offset", "end_lineno", "end_col_offset", "type_comment", "kind"})


def canonical(
    node: ast.Module | Definition, origins: Mapping[str, str], holder: str | None = None
) -> ast.Module | Definition:
    """Gives the form of a definition, as a tree of its own.

    Args:
        node: the definition, which is left as it is; definitions within a module or class body are cut out of it.
        origins: what imported names stand for.
        holder: of a method, the name of its class.
    """
    whole = _copied(node, whole=isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))
    assert isinstance(whole, (ast.Module, *DEFINITIONS))
    if not isinstance(whole, Function):
        _number(whole)
    for one in ast.walk(whole):
        if isinstance(one, ast.arguments):
            one.posonlyargs, one.args = [], [*one.posonlyargs, *one.args]
    shadowed = {
        name
        for one in ast.walk(whole)
        if isinstance(one, (ast.Name, ast.arg))
        for name in [one.arg if isinstance(one, ast.arg) else one.id if isinstance(one.ctx, ast.Store) else ""]
    }
    within = _taken_imports(whole)
    known = {name: origin for name, origin in {**origins, **within}.items() if name not in shadowed}
    if isinstance(whole, ast.Module):
        whole.body = [one for one in whole.body if not isinstance(one, (ast.Import, ast.ImportFrom))]
    _same_imports(whole)
    _plain_super(whole, holder)
    uniquely_named(whole)
    generators = [one for one in ast.walk(whole) if isinstance(one, Function) and _yields(one)]
    for _ in range(ROUNDS):
        without_unused(whole)
        rewrite(whole, known)
        known = {}
        for one in ast.walk(whole):
            if isinstance(one, (ast.FunctionDef, ast.AsyncFunctionDef)):
                merge_copies(one)
                mark_uses(one)
        tail = function_tail(whole) if isinstance(whole, Function) else "none"
        whole.body = flow(whole.body, tail, isinstance(whole, ast.ClassDef))
    order_sides(whole)
    for one in generators:
        if not _yields(one):  # what is never reached makes it a generator all the same
            one.body.append(ast.Expr(ast.Yield()))
    return whole


def weakened(whole: ast.Module | Definition, *, annotations: bool, messages: bool) -> ast.Module | Definition:
    """Gives a copy of a form without what only readers see.

    Args:
        whole: a form that ``canonical`` gave.
        annotations: whether annotations stay, which something might read.
        messages: whether the words stay in which errors and log entries are told.
    """
    copy = _copied(whole, whole=True)
    assert isinstance(copy, (ast.Module, *DEFINITIONS))
    if not annotations:
        _strip(copy)
    if not messages:
        _silence(copy)
    return copy


def _taken_imports(whole: ast.Module | Definition) -> dict[str, str]:
    """Takes the imports out of the bodies of functions: when a module is first read is not told."""
    found: dict[str, str] = {}
    waiting: list[ast.AST] = [whole] if isinstance(whole, Function) else []
    while waiting:
        node = waiting.pop()
        for field in ("body", "orelse", "finalbody"):
            body = getattr(node, field, None)
            if not isinstance(body, list) or isinstance(node, (ast.Try, ast.TryStar, ast.ClassDef)):
                continue
            found.update(origins_of(body))
            setattr(node, field, [one for one in body if not isinstance(one, (ast.Import, ast.ImportFrom))])
            waiting += getattr(node, field)
    return found


def _same_imports(whole: ast.AST) -> None:
    """Tells the imports that stay, in branches, by where their names come from, one name each."""
    for node in ast.walk(whole):
        for field in ("body", "orelse", "finalbody"):
            body = getattr(node, field, None)
            if isinstance(body, list) and any(isinstance(one, ast.ImportFrom) for one in body):
                setattr(node, field, [told for one in body for told in _by_origin(one)])


def _by_origin(statement: ast.stmt) -> list[ast.stmt]:
    if not isinstance(statement, ast.ImportFrom):
        return [statement]
    found = sorted(origins_of([statement]))
    if any(name.startswith(STAR) for name, _ in found) or not found:
        return [statement]
    return [ast.Import([ast.alias(origin, name)]) for name, origin in found]


def _yields(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Says whether a function is a generator."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.Yield, ast.YieldFrom)):
            return True
        if not isinstance(node, (*DEFINITIONS, ast.Lambda)):
            waiting += ast.iter_child_nodes(node)
    return False


def _number(whole: ast.Module | Definition) -> None:
    """Tells definitions of one name apart, as branches have them, by the order in which they stand."""
    met: Counter[str] = Counter()
    for node in ast.walk(whole):
        if isinstance(node, ast.ClassDef) and node is not whole:
            met[node.name] += 1
            if met[node.name] > 1:
                node.name = f"{node.name}#{met[node.name]}"


def _plain_super(whole: ast.AST, holder: str | None) -> None:
    """Tells `super(Own, self)` as `super()`: of another class than a method's own it is another call."""
    for node in ast.iter_child_nodes(whole):
        match node:
            case ast.Call(func=ast.Name(id="super"), args=[ast.Name(id=name), ast.Name()], keywords=[]):
                if name in {holder, "__class__"}:
                    node.args = []
        _plain_super(node, node.name if isinstance(node, ast.ClassDef) else holder)


def _copied(node: ast.AST, *, whole: bool) -> ast.AST:
    """Copies a tree without its places in the text; unless ``whole``, definitions inside keep no body."""
    fields: dict[str, object] = {}
    for field, held in ast.iter_fields(node):
        if field in _ABSENT:
            continue
        if isinstance(held, ast.AST):
            held = held if isinstance(held, (ast.expr_context, ast.operator)) else _copied(held, whole=whole)
        elif isinstance(held, list):
            held = [_inner(one, whole) if isinstance(one, ast.AST) else one for one in held]
        fields[field] = held
    return type(node)(**fields)


def _inner(node: ast.AST, whole: bool) -> ast.AST:
    if whole or not isinstance(node, DEFINITIONS):
        return _copied(node, whole=whole)
    return ast.ClassDef(name=node.name, bases=[], keywords=[], body=[], decorator_list=[])


def _strip(whole: ast.AST) -> None:
    """Takes the annotations off a tree."""
    for node in ast.walk(whole):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                node.returns = None
            case ast.arg():
                node.annotation = None
            case ast.ClassDef():
                fields = bool(node.decorator_list or node.bases or node.keywords)
                node.body = [bare for one in node.body if (bare := _unannotated(one, fields)) is not None]


def _unannotated(statement: ast.stmt, fields: bool) -> ast.stmt | None:
    """Takes the annotation off; a name without a value stays where it may be a field, as of a dataclass."""
    if not isinstance(statement, ast.AnnAssign):
        return statement
    value = statement.value if statement.value is not None else ast.Constant(...) if fields else None
    return ast.Assign([statement.target], value) if value is not None else None


def _silence(whole: ast.AST) -> None:
    """Empties the texts of errors that are raised and of log entries."""
    for node in ast.walk(whole):
        match node:
            case ast.Raise(exc=ast.Call(args=arguments)):
                _empty(arguments)
            case ast.Assert(msg=ast.expr()):
                node.msg = ast.Constant("")
            case ast.Call(func=ast.Attribute(value=holder, attr=name), args=arguments) if name in _MESSAGES:
                if "log" in (dotted(holder) or "").lower() or dotted(holder) == "warnings":
                    _empty(arguments)


def _empty(arguments: list[ast.expr]) -> None:
    for place, argument in enumerate(arguments):
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
            arguments[place] = ast.Constant("")
        elif isinstance(argument, ast.JoinedStr):
            values = [part for part in argument.values if not isinstance(part, ast.Constant)]
            arguments[place] = ast.JoinedStr(values)
