"""Expressions in one form, from the leaves up: see ``strings``, ``conditions``, ``calls`` for what is told alike."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from .calls import IMPORTED, alias, called, comprehended, dotted, exceptions, named
from .choices import chosen_by
from .conditions import any_of, compared, condition, is_negative, negated, truth
from .strings import joined, unnumbered


def _shifted(value: int, by: int) -> int:
    return value << by if 0 <= by < 64 else FOLDED_MAX


FOLDED_MAX: Final = 1 << 64
"""Integers that a sum of constants may reach; a power of constants is left as it is written."""
_ARITHMETIC: Final[dict[type[ast.operator], Callable[[Any, Any], Any]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.BitOr: operator.or_,
    ast.BitAnd: operator.and_,
    ast.BitXor: operator.xor,
    ast.LShift: _shifted,
}


def rewrite(tree: ast.AST, origins: Mapping[str, str]) -> None:
    """Rewrites the expressions of a tree, and those that its statements hold.

    Args:
        tree: a definition or module, changed in place.
        origins: what names that imports bind stand for: ``np`` for ``numpy``, ``join`` for ``os.path.join``.
    """
    _Expressions(origins).visit(tree)


class _Expressions(ast.NodeTransformer):
    def __init__(self, origins: Mapping[str, str]) -> None:
        self._origins = origins

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """A name that an import binds is told by where it comes from."""
        origin = self._origins.get(node.id) if isinstance(node.ctx, ast.Load) else None
        return alias(named(IMPORTED + origin) if origin else node)

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        self.generic_visit(node)
        match node:
            case ast.Attribute(value=ast.Constant(value=str(template)), attr="format"):
                return ast.Attribute(ast.Constant(unnumbered(template)), "format", node.ctx)
        return alias(node)

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        self.generic_visit(node)
        match node:
            case ast.BinOp(left=ast.Constant(value=int(a)), op=op, right=ast.Constant(value=int(b))) if (
                type(op) in _ARITHMETIC
            ):
                result = _ARITHMETIC[type(op)](a, b)
                return ast.Constant(result) if abs(result) < FOLDED_MAX else node
            case ast.BinOp(op=ast.Add(), left=left, right=right) if (chain := _sequence(left, right)) is not None:
                return chain
            case ast.BinOp(left=ast.Constant(value=int() | float()) as left, op=ast.Add() | ast.Mult(), right=right):
                node = ast.BinOp(right, node.op, left)
        return joined(node)

    def visit_Dict(self, node: ast.Dict) -> ast.expr:
        self.generic_visit(node)
        keys: list[ast.expr | None] = []
        values: list[ast.expr] = []
        for key, value in zip(node.keys, node.values, strict=True):
            within = value if key is None and isinstance(value, ast.Dict) else ast.Dict([key], [value])
            keys += within.keys
            values += within.values
        if len(keys) > 1 and not any(keys):
            return _union(values)
        return ast.Dict(keys, values)

    def visit_Lambda(self, node: ast.Lambda) -> ast.expr:
        self.generic_visit(node)
        arguments = node.args
        if not (arguments.args or arguments.kwonlyargs or arguments.vararg or arguments.kwarg):
            match node.body:
                case ast.List(elts=[]) | ast.Tuple(elts=[]) | ast.Dict(keys=[]):
                    return ast.Name(type(node.body).__name__.lower(), ast.Load())
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        self.generic_visit(node)
        match dotted(node.value), node.slice:
            case "typing.Optional", one:
                return _union([one, ast.Constant(None)])
            case "typing.Union", ast.Tuple(elts=kinds):
                return _union(kinds)
        return node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.expr:
        self.generic_visit(node)
        return joined(node)

    def visit_FormattedValue(self, node: ast.FormattedValue) -> ast.expr:
        node.value = self.visit(node.value)
        if node.format_spec is not None and not _is_constant_spec(node.format_spec):
            self.generic_visit(node.format_spec)
        return node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        self.generic_visit(node)
        match node:
            case ast.UnaryOp(op=ast.Not(), operand=inner):
                return negated(condition(inner))
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
                return ast.Constant(-value)
            case ast.UnaryOp(op=ast.UAdd(), operand=ast.Constant(value=int() | float())):
                return node.operand
        return node

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.expr:
        self.generic_visit(node)
        return any_of(node.op, node.values)

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        self.generic_visit(node)
        return compared(node)

    def visit_IfExp(self, node: ast.IfExp) -> ast.expr:
        self.generic_visit(node)
        test = condition(node.test)
        if is_negative(test):
            test, node.body, node.orelse = negated(test), node.orelse, node.body
        match node.body, node.orelse:
            case ast.Constant(value=True), ast.Constant(value=False):
                return truth(test)
            case ast.Constant(value=False), ast.Constant(value=True):
                return negated(test)
            case body, orelse if ast.dump(body) == ast.dump(test):
                return any_of(ast.Or(), [test, orelse])
            case body, orelse if (chosen := chosen_by(test, body, orelse)) is not None:
                return chosen
        return ast.IfExp(test, node.body, node.orelse)

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        text = joined(node)
        return called(node) if text is node else text

    def visit_List(self, node: ast.List) -> ast.expr:
        self.generic_visit(node)
        match node:
            case ast.List(elts=[ast.Starred(value=only)], ctx=ast.Load()):
                return called(ast.Call(ast.Name("list", ast.Load()), [only], []))
        return node

    def visit_ListComp(self, node: ast.ListComp) -> ast.expr:
        self.generic_visit(node)
        return comprehended(node)

    def visit_SetComp(self, node: ast.SetComp) -> ast.expr:
        self.generic_visit(node)
        return comprehended(node)

    def visit_DictComp(self, node: ast.DictComp) -> ast.expr:
        self.generic_visit(node)
        return comprehended(node)

    def visit_comprehension(self, node: ast.comprehension) -> ast.comprehension:
        self.generic_visit(node)
        node.ifs = [condition(one) for one in node.ifs]
        if len(node.ifs) > 1:
            node.ifs = [any_of(ast.And(), node.ifs)]
        node.iter = _iterated(node.iter)
        return node

    # ---- expressions that statements hold --------------------------------------------------------------------------

    def visit_If(self, node: ast.If) -> ast.stmt:
        self.generic_visit(node)
        node.test = condition(node.test)
        return node

    def visit_While(self, node: ast.While) -> ast.stmt:
        self.generic_visit(node)
        node.test = condition(node.test)
        return node

    def visit_Assert(self, node: ast.Assert) -> ast.stmt:
        self.generic_visit(node)
        node.test = condition(node.test)
        return node

    def visit_For(self, node: ast.For) -> ast.stmt:
        self.generic_visit(node)
        node.iter = _iterated(node.iter)
        return node

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.ExceptHandler:
        self.generic_visit(node)
        node.type = exceptions(node.type) if node.type else ast.Name("BaseException", ast.Load())
        if node.name and not any(isinstance(one, ast.Name) and one.id == node.name for one in _within(node.body)):
            node.name = None
        return node

    def visit_Raise(self, node: ast.Raise) -> ast.stmt:
        self.generic_visit(node)
        match node.exc:
            case ast.Call(func=ast.Name() | ast.Attribute() as kind, args=[], keywords=[]):
                node.exc = kind
        return node


def _union(kinds: list[ast.expr]) -> ast.expr:
    told = kinds[0]
    for kind in kinds[1:]:
        told = ast.BinOp(told, ast.BitOr(), kind)
    return told


def _sequence(left: ast.expr, right: ast.expr) -> ast.expr | None:
    """`a + [x]` is `[*a, x]`: a sum with a list or tuple in brackets."""
    for kind in (ast.List, ast.Tuple):
        if isinstance(left, kind) or isinstance(right, kind):
            parts: list[ast.expr] = []
            for side in (left, right):
                parts += side.elts if isinstance(side, kind) else [ast.Starred(side, ast.Load())]
            return kind(parts, ast.Load())
    return None


def _within(body: list[ast.stmt]) -> Iterator[ast.AST]:
    return (one for statement in body for one in ast.walk(statement))


def _is_constant_spec(spec: ast.expr) -> bool:
    return isinstance(spec, ast.JoinedStr) and all(isinstance(part, ast.Constant) for part in spec.values)


def _iterated(node: ast.expr) -> ast.expr:
    """What a loop goes over: the keys of a mapping are the mapping, a list of constants is a tuple of them."""
    match node:
        case ast.Call(func=ast.Attribute(value=inner, attr="keys" | "readlines"), args=[], keywords=[]):
            return inner
        case ast.List(elts=items):
            return ast.Tuple(items, ast.Load())
    return node
