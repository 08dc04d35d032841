"""Statements in one form: what can be said in one statement or in two is said in the same number on both sides."""

from __future__ import annotations

import ast
from typing import Final

from .calls import dotted
from .choices import read_of, same, set_by
from .conditions import condition, negated
from .matches import choice_of
from .spelled_out import appended, is_place, spelled_out
from .strings import is_text, joined
from .unique import MARK

Function = ast.FunctionDef | ast.AsyncFunctionDef
_PURE: Final = (ast.Name, ast.Constant)


def taken_apart(node: ast.stmt, in_class: bool) -> list[ast.stmt]:
    """Gives the statements that one statement stands for: none for one without effect.

    Args:
        node: a statement whose expressions are in their form already.
        in_class: whether it stands in a class body, where annotations may be read.
    """
    match node:
        case ast.Pass() | ast.Expr(value=ast.Constant()):
            return []
        case ast.If() if (known := _known(node.test)) is not None:
            return node.body if known else node.orelse
        case ast.While() if _known(node.test) is False:
            return node.orelse
        case ast.If(test=ast.NamedExpr() | ast.Compare(left=ast.NamedExpr())):
            return [*_hoisted(node)]
        case ast.While(test=ast.NamedExpr() | ast.Compare(left=ast.NamedExpr()), orelse=[]):
            assign, asked = _hoisted(ast.If(node.test, [], []))
            assert isinstance(asked, ast.If)
            return [
                ast.While(ast.Constant(True), [assign, ast.If(_not(asked.test), [ast.Break()], []), *node.body], [])
            ]
        case ast.If(body=[ast.Assign(targets=[target], value=value)], orelse=[]) if (
            told := _once(node.test, target, value)
        ) is not None:
            return [told]
        case ast.If(body=[ast.Expr(value=ast.Call(func=ast.Attribute(value=held, attr="remove"), args=[item]))]) if (
            not node.orelse and _is_member(node.test, item, held)
        ):
            return [ast.Expr(ast.Call(ast.Attribute(held, "discard", ast.Load()), [item], []))]
        case ast.Expr(value=ast.Call() as call) if (apart := spelled_out(call)) is not None:
            return apart
        case ast.Assert(test=ast.Constant(value=False), msg=message):
            error = ast.Name("AssertionError", ast.Load())
            return [ast.Raise(error if message is None else ast.Call(error, [message], []))]
        case ast.AugAssign(target=target, op=ast.Add(), value=ast.List(elts=items)) if items and is_place(target):
            return appended(read_of(target), items)
        case ast.Match() if (chosen := choice_of(node)) is not None:
            return chosen
        case ast.AnnAssign(value=None) if not in_class:
            return []
        case ast.AnnAssign(target=target, value=ast.expr() as value) if not in_class:
            return taken_apart(ast.Assign([target], value), in_class)
        case ast.Assign(targets=[ast.Name(id=name)], value=ast.Name(id=other)) if name == other and not in_class:
            return []
        case ast.Assign():
            return _assigned(node)
        case ast.Delete(targets=[ast.Subscript(value=held, slice=ast.Slice(lower=None, upper=None, step=None))]):
            return [ast.Expr(ast.Call(ast.Attribute(held, "clear", ast.Load()), [], []))]
        case ast.AugAssign(target=target, op=ast.Add(), value=value) if is_text(value):
            return [ast.Assign([target], joined(ast.BinOp(read_of(target), ast.Add(), value)))]
        case ast.Return(value=ast.IfExp(test=test, body=body, orelse=orelse)):
            return [ast.If(test, [ast.Return(body)], [ast.Return(orelse)])]
        case ast.Expr(value=ast.IfExp(test=test, body=body, orelse=orelse)):
            return [ast.If(test, [ast.Expr(body)], [ast.Expr(orelse)])]
        case ast.Return(value=ast.Constant(value=None)):
            return [ast.Return(None)]
        case ast.For(target=ast.Name(id=a), body=[ast.Expr(value=ast.Yield(value=ast.Name(id=b)))], orelse=[]):
            return [ast.Expr(ast.YieldFrom(node.iter))] if a == b else [node]
        case ast.With(items=[item], body=body) if _is_suppress(item):
            assert isinstance(item.context_expr, ast.Call)
            kinds = item.context_expr.args
            kind = kinds[0] if len(kinds) == 1 else ast.Tuple(kinds, ast.Load())
            return [ast.Try(body, [ast.ExceptHandler(kind, None, [])], [], [])]
        case ast.With(body=[ast.With(items=inner, body=body)]):
            return [ast.With([*node.items, *inner], body)]
        case ast.While(test=ast.Constant(value=True), body=[ast.If(body=[ast.Break()], orelse=[]) as first, *rest]):
            return [ast.While(_not(first.test), rest, node.orelse)] if not node.orelse else [node]
        case ast.Delete(targets=[_, _, *_] as targets):
            return [ast.Delete([target]) for target in targets]
    return [node]


def _known(test: ast.expr) -> bool | None:
    """Says which way a condition goes that does not depend on the run; a type checker's own branch is never taken."""
    if isinstance(test, ast.Constant):
        return bool(test.value)
    return False if dotted(test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"} else None


def _not(test: ast.expr) -> ast.expr:
    return condition(ast.UnaryOp(ast.Not(), test))


def _hoisted(node: ast.If) -> tuple[ast.stmt, ast.stmt]:
    """`if (x := f()) > 1` is `x = f()`, then `if x > 1`."""
    test = node.test
    walrus = test.left if isinstance(test, ast.Compare) else test
    assert isinstance(walrus, ast.NamedExpr)
    name = ast.Name(walrus.target.id, ast.Load())
    left = ast.Compare(name, test.ops, test.comparators) if isinstance(test, ast.Compare) else name
    assign = ast.Assign([ast.Name(walrus.target.id, ast.Store())], walrus.value)
    return assign, ast.If(left, node.body, node.orelse)


def _assigned(node: ast.Assign) -> list[ast.stmt]:
    targets, value = node.targets, node.value
    match targets, value:
        case [ast.Name(id="__all__" | "__slots__") as names], ast.List(elts=items) | ast.Tuple(elts=items):
            told = ast.Tuple(sorted(items, key=ast.dump), ast.Load())
            return [node] if ast.dump(told) == ast.dump(value) else [ast.Assign([names], told)]
        case [ast.Tuple(elts=names) | ast.List(elts=names)], ast.Tuple(elts=values) | ast.List(elts=values) if len(
            names
        ) == len(values) and _are_independent(names, values):
            return [ast.Assign([name], one) for name, one in zip(names, values, strict=True)]
        case [ast.Tuple() | ast.List() as taken], ast.ListComp(elt=elt, generators=generators):
            return [ast.Assign([taken], ast.GeneratorExp(elt, generators))]
        case [_, _, *_], ast.Constant():
            return [ast.Assign([target], value) for target in targets]
        case [ast.Name() as target], ast.BoolOp(op=ast.Or(), values=[first, *rest]) if same(read_of(target), first):
            other_value = rest[0] if len(rest) == 1 else ast.BoolOp(ast.Or(), rest)
            return [ast.If(negated(condition(first)), [ast.Assign([target], other_value)], [])]
        case [ast.Name() | ast.Attribute() | ast.Subscript() as target], ast.List(
            elts=[ast.Starred(value=first), *more]
        ) | ast.Tuple(elts=[ast.Starred(value=first), *more]) if more and same(read_of(target), first):
            return [ast.AugAssign(target, ast.Add(), type(value)(more, ast.Load()))]
        case [target], ast.IfExp(test=test, body=body, orelse=orelse):
            return [ast.If(test, [ast.Assign([target], body)], [ast.Assign([target], orelse)])]
        case [ast.Name() | ast.Attribute() | ast.Subscript() as target], ast.BinOp(left=left, op=op, right=right) if (
            same(read_of(target), left)
        ):
            return [ast.AugAssign(target, op, right)]
        case [ast.Name(id=name)], ast.Lambda(args=arguments, body=body) if MARK in name:
            # Only of a local: a definition of a module or class is a unit of its own, and no part of this form.
            return [_defined(name, arguments, body)]
    return [node]


def _once(test: ast.expr, target: ast.expr, value: ast.expr) -> ast.stmt | None:
    """`if a > b: a = b` is `a = min(a, b)`."""
    if not isinstance(target, (ast.Name, ast.Attribute, ast.Subscript)):
        return None
    found = set_by(test, target, value)
    return None if found is None else ast.Assign([target], found)


def _is_member(test: ast.expr, item: ast.expr, held: ast.expr) -> bool:
    match test:
        case ast.Compare(left=left, ops=[ast.In()], comparators=[right]):
            return ast.dump(left) == ast.dump(item) and ast.dump(right) == ast.dump(held)
    return False


def _are_independent(names: list[ast.expr], values: list[ast.expr]) -> bool:
    """Says whether assignments give the same one after the other as at once."""
    if not all(isinstance(name, ast.Name) for name in names):
        return False
    bound = {name.id for name in names if isinstance(name, ast.Name)}
    used = {one.id for value in values[1:] for one in ast.walk(value) if isinstance(one, ast.Name)}
    starred = any(isinstance(one, ast.Starred) for one in (*names, *values))
    return not bound & used and not starred


def _defined(name: str, arguments: ast.arguments, body: ast.expr) -> Function:
    return ast.FunctionDef(name=name, args=arguments, body=[ast.Return(body)], decorator_list=[])


def _is_suppress(item: ast.withitem) -> bool:
    call = item.context_expr
    return (
        isinstance(call, ast.Call)
        and item.optional_vars is None
        and bool(call.args)
        and dotted(call.func) in {"contextlib.suppress", "suppress"}
    )
