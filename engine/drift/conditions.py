"""The one form of a condition: negations pushed inwards, constants on the right, chains and repetitions told alike.

`not a < b` is told as `a >= b`, and `x == 1 or x == 2` as `x in (1, 2)`: the same for values with an order, as code
that is compared by its meaning has them.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Final

from .unique import MARK

_OPPOSITE: Final[dict[type[ast.cmpop], Callable[[], ast.cmpop]]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Lt: ast.GtE,
    ast.GtE: ast.Lt,
    ast.Gt: ast.LtE,
    ast.LtE: ast.Gt,
}
_MIRROR: Final[dict[type[ast.cmpop], Callable[[], ast.cmpop]]] = {
    ast.Eq: ast.Eq,
    ast.NotEq: ast.NotEq,
    ast.Lt: ast.Gt,
    ast.Gt: ast.Lt,
    ast.LtE: ast.GtE,
    ast.GtE: ast.LtE,
    ast.Is: ast.Is,
    ast.IsNot: ast.IsNot,
}
_SYMMETRIC: Final = (ast.Eq, ast.NotEq, ast.Is, ast.IsNot)
_NEGATIVE: Final = (ast.NotEq, ast.IsNot, ast.NotIn, ast.LtE, ast.GtE)
_SIMPLE: Final = (ast.Name, ast.Constant)


def negated(node: ast.expr) -> ast.expr:
    """Gives the opposite of a condition."""
    match node:
        case ast.UnaryOp(op=ast.Not(), operand=inner):
            return truth(inner)
        case ast.Call(func=ast.Name(id="bool"), args=[inner], keywords=[]):
            return negated(inner)
        case ast.BoolOp(op=op, values=values):
            turned = ast.Or() if isinstance(op, ast.And) else ast.And()
            return any_of(turned, [negated(value) for value in values])
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            return compared(ast.Compare(left, [_OPPOSITE[type(op)]()], [right]))
        case ast.Constant(value=bool(value)):
            return ast.Constant(not value)
        case ast.Call(func=ast.Name(id="any" | "all" as name), args=[ast.GeneratorExp(elt=elt, generators=generators)]):
            turned_name = ast.Name("all" if name == "any" else "any", ast.Load())
            return ast.Call(turned_name, [ast.GeneratorExp(negated(condition(elt)), generators)], [])
    return ast.UnaryOp(ast.Not(), node)


def truth(node: ast.expr) -> ast.expr:
    """Gives what an expression is as a truth value: itself where it is one already."""
    if isinstance(node, ast.Compare) or (isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)):
        return node
    if isinstance(node, ast.Constant):
        return ast.Constant(bool(node.value))
    match node:
        case ast.BoolOp(op=op, values=values):
            return any_of(op, [truth(value) for value in values])
        case ast.Call(func=ast.Name(id="bool" | "isinstance" | "issubclass" | "callable" | "hasattr" | "any" | "all")):
            return node
        case ast.Call(func=ast.Attribute(attr="startswith" | "endswith")):
            return node
    return ast.Call(ast.Name("bool", ast.Load()), [node], [])


def condition(node: ast.expr) -> ast.expr:
    """Gives the form of an expression of which only the truth matters."""
    match node:
        case ast.Call(func=ast.Name(id="bool"), args=[inner], keywords=[]):
            return condition(inner)
        case ast.Constant(value=value):
            return ast.Constant(bool(value))
        case ast.UnaryOp(op=ast.Not(), operand=inner):
            return negated(condition(inner))
        case ast.BoolOp(op=op, values=values):
            return any_of(op, [condition(value) for value in values])
        case ast.Compare(left=left, ops=[ast.Eq()], comparators=[ast.Constant(value=bool(wanted))]):
            return condition(left) if wanted else negated(condition(left))
        case ast.Compare(left=left, ops=[ast.NotEq()], comparators=[ast.Constant(value=bool(wanted))]):
            return negated(condition(left)) if wanted else condition(left)
        case ast.Compare(
            left=ast.Call(func=ast.Name(id="len"), args=[inner], keywords=[]), ops=[op], comparators=[right]
        ) if isinstance(right, ast.Constant):
            match op, right.value:
                case (ast.Gt() | ast.NotEq(), 0) | (ast.GtE(), 1):
                    return inner
                case (ast.Eq() | ast.LtE(), 0) | (ast.Lt(), 1):
                    return negated(inner)
    return node


def is_negative(node: ast.expr) -> bool:
    """Says whether a condition is rather told by its opposite, the branches exchanged."""
    match node:
        case ast.UnaryOp(op=ast.Not()):
            return True
        case ast.Compare(ops=[op]):
            return isinstance(op, _NEGATIVE)
        case ast.BoolOp(values=values):
            return all(is_negative(value) for value in values)
    return False


def compared(node: ast.Compare) -> ast.expr:
    """Gives the form of a comparison."""
    if len(node.ops) > 1:
        operands = [node.left, *node.comparators]
        if not all(isinstance(one, _SIMPLE) for one in operands[1:-1]):
            return node
        single = [
            compared(ast.Compare(left, [op], [right]))
            for left, op, right in zip(operands, node.ops, operands[1:], strict=False)
        ]
        return any_of(ast.And(), single)
    left, op, right = node.left, node.ops[0], node.comparators[0]
    if type(op) in _MIRROR and _constancy(left) > _constancy(right):
        left, op, right = right, _MIRROR[type(op)](), left
    if isinstance(op, (ast.Eq, ast.NotEq)) and _is_none_or_type(left, right):
        op = ast.Is() if isinstance(op, ast.Eq) else ast.IsNot()
    match left, right:
        case (
            ast.Call(func=ast.Name(id="type"), args=[value]),
            ast.Call(func=ast.Name(id="type"), args=[ast.Constant(value=None) as none]),
        ):
            left, right = value, none
    if isinstance(op, (ast.In, ast.NotIn)):
        right = _members(right)
    return ast.Compare(left, [op], [right])


def order_sides(whole: ast.AST) -> None:
    """Puts the side of the smaller shape left where it is the same either way, once all else is in its form.

    Names are no part of a shape: it is the same when they are exchanged.
    """
    for node in ast.walk(whole):
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and isinstance(node.ops[0], _SYMMETRIC):
            left, right = node.left, node.comparators[0]
            if _constancy(left) != _constancy(right):
                continue
            shapes = _shape(left), _shape(right)
            acts = [any(name in {"Call", "Await", "NamedExpr"} for name in shape) for shape in shapes]
            if (len(shapes[0]), shapes[0]) > (len(shapes[1]), shapes[1]) and not all(acts):
                node.left, node.comparators = right, [left]


def _constancy(node: ast.expr) -> int:
    """How much an expression is like a constant, as a linter sees it: by its kind, or by its name in capitals."""
    match node:
        case ast.Constant():
            return 3
        case ast.UnaryOp(operand=inner) if not isinstance(node.op, ast.Not):
            return _constancy(inner)
        case ast.Tuple(elts=items) | ast.List(elts=items) | ast.Set(elts=items):
            return min((_constancy(item) for item in items), default=2)
        case ast.Name(id=name) | ast.Attribute(attr=name) if name.isupper() and len(name) > 1 and MARK not in name:
            return 1
    return 0


def _shape(node: ast.expr) -> tuple[str, ...]:
    return tuple(type(one).__name__ for one in ast.walk(node))


def is_none(node: ast.expr) -> bool:
    """Says whether an expression is `None`."""
    return isinstance(node, ast.Constant) and node.value is None


def _is_none_or_type(left: ast.expr, right: ast.expr) -> bool:
    """`x == None` and `type(x) == T` are what a linter turns into `is`."""
    return is_none(right) or any(
        isinstance(side, ast.Call)
        and isinstance(side.func, ast.Name)
        and side.func.id == "type"
        and len(side.args) == 1
        for side in (left, right)
    )


def _members(node: ast.expr) -> ast.expr:
    """Gives what membership is asked of, told without what does not matter for it."""
    match node:
        case ast.Call(func=ast.Attribute(value=inner, attr="keys"), args=[], keywords=[]):
            return inner
        case ast.List(elts=items) | ast.Set(elts=items) | ast.Tuple(elts=items) if all(
            isinstance(item, ast.Constant) for item in items
        ):
            return ast.Tuple(sorted(items, key=ast.dump), ast.Load())
        case ast.List(elts=items) | ast.Set(elts=items):
            return ast.Tuple(items, ast.Load())
    return node


def any_of(op: ast.boolop, values: list[ast.expr]) -> ast.expr:
    """Gives the form of `and` and `or`: nested ones of the same kind flat, repetitions over one value as membership."""
    flat: list[ast.expr] = []
    for value in values:
        flat += value.values if isinstance(value, ast.BoolOp) and type(value.op) is type(op) else [value]
    told: list[ast.expr] = []
    for value in flat:
        merged = _together(op, told[-1], value) if told else None
        if merged is None:
            told.append(value)
        else:
            told[-1] = merged
    return told[0] if len(told) == 1 else ast.BoolOp(op, told)


def _together(op: ast.boolop, left: ast.expr, right: ast.expr) -> ast.expr | None:
    """`x == a or x == b`, `x != a and x != b`, `isinstance(x, A) or isinstance(x, B)`, as one question each."""
    single: type[ast.cmpop] = ast.Eq if isinstance(op, ast.Or) else ast.NotEq
    many: type[ast.cmpop] = ast.In if isinstance(op, ast.Or) else ast.NotIn
    match left, right:
        case (
            ast.Compare(left=a, ops=[first], comparators=[one]),
            ast.Compare(left=b, ops=[second], comparators=[two]),
        ) if isinstance(second, single):
            if isinstance(first, many) and isinstance(one, ast.Tuple) and ast.dump(a) == ast.dump(b):
                return ast.Compare(a, [many()], [_members(ast.Tuple([*one.elts, two], ast.Load()))])
            if isinstance(first, single) and (shared := _shared((a, one), (b, two))) is not None:
                asked, items = shared
                return ast.Compare(asked, [many()], [_members(ast.Tuple(items, ast.Load()))])
        case (
            ast.Call(func=ast.Name(id="isinstance" | "issubclass" as name), args=[a, one], keywords=[]),
            ast.Call(func=ast.Name(id=again), args=[b, two], keywords=[]),
        ) if isinstance(op, ast.Or) and name == again and ast.dump(a) == ast.dump(b):
            kinds = [*_kinds(one), *_kinds(two)]
            return ast.Call(ast.Name(name, ast.Load()), [a, ast.Tuple(kinds, ast.Load())], [])
        case (
            ast.Call(func=ast.Attribute(value=a, attr="startswith" | "endswith" as name), args=[one], keywords=[]),
            ast.Call(func=ast.Attribute(value=b, attr=again), args=[two], keywords=[]),
        ) if isinstance(op, ast.Or) and name == again and ast.dump(a) == ast.dump(b):
            texts = ast.Tuple([*_kinds(one), *_kinds(two)], ast.Load())
            return ast.Call(ast.Attribute(a, name, ast.Load()), [texts], [])
    return None


def _shared(
    left: tuple[ast.expr, ast.expr], right: tuple[ast.expr, ast.expr]
) -> tuple[ast.expr, list[ast.expr]] | None:
    """Gives what two comparisons both ask about, and what each compares it with."""
    for place in (0, 1):
        for other in (0, 1):
            if ast.dump(left[place]) == ast.dump(right[other]):
                return left[place], [left[1 - place], right[1 - other]]
    return None


def _kinds(node: ast.expr) -> list[ast.expr]:
    match node:
        case ast.Tuple(elts=items):
            return list(items)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return [*_kinds(left), *_kinds(right)]
    return [node]
