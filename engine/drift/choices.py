"""Choices between two values that one call makes: `min`, `max`, `removeprefix`, `removesuffix`, `get`."""

from __future__ import annotations

import ast

from .conditions import is_none


def chosen_by(test: ast.expr, body: ast.expr, orelse: ast.expr) -> ast.expr | None:
    """Gives the call that gives `body if test else orelse`, or None."""
    match test:
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            sides = (ast.dump(body), ast.dump(orelse))
            if isinstance(op, (ast.Lt, ast.LtE, ast.Gt, ast.GtE)):
                return _extreme(op, (ast.dump(left), ast.dump(right)), sides, body, orelse)
            if isinstance(op, ast.In):
                return _got(left, right, body, orelse)
        case ast.Call(
            func=ast.Attribute(value=text, attr="startswith" | "endswith" as asked), args=[part], keywords=[]
        ):
            if same(text, orelse) and _cuts(asked, text, part, body):
                cut = "removeprefix" if asked == "startswith" else "removesuffix"
                return ast.Call(ast.Attribute(orelse, cut, ast.Load()), [part], [])
    return None


def set_by(test: ast.expr, target: ast.expr, value: ast.expr) -> ast.expr | None:
    """Gives the call whose value a target has after `if test: target = value`, or None."""
    found = chosen_by(test, value, read_of(target))
    match found:
        case ast.Call(func=ast.Name(id="min" | "max"), args=[a, b]) if not same(a, read_of(target)):
            return ast.Call(found.func, [b, a], [])  # what is bounded first, as linters write it
    return found


def _extreme(
    op: ast.cmpop, asked: tuple[str, str], sides: tuple[str, str], body: ast.expr, orelse: ast.expr
) -> ast.expr | None:
    if any(isinstance(one, (ast.Call, ast.Await)) for side in (body, orelse) for one in ast.walk(side)):
        return None
    lower = isinstance(op, (ast.Lt, ast.LtE))
    if sides == asked:
        name = "min" if lower else "max"
    elif sides == asked[::-1]:
        name = "max" if lower else "min"
    else:
        return None
    return ast.Call(ast.Name(name, ast.Load()), [body, orelse], [])


def _got(key: ast.expr, mapping: ast.expr, body: ast.expr, orelse: ast.expr) -> ast.expr | None:
    match body, orelse:
        case ast.Subscript(value=held, slice=index), ast.Constant() | ast.Name():
            if same(held, mapping) and same(index, key):
                given = [key] if is_none(orelse) else [key, orelse]
                return ast.Call(ast.Attribute(mapping, "get", ast.Load()), given, [])
    return None


def _cuts(asked: str, text: ast.expr, part: ast.expr, body: ast.expr) -> bool:
    """Says whether an expression is a text without the start or end that was asked for."""
    match body:
        case ast.Subscript(value=held, slice=ast.Slice(lower=low, upper=high, step=None)) if same(held, text):
            place, none = (low, high) if asked == "startswith" else (high, low)
            return none is None and place is not None and _is_length(place, part, negative=asked == "endswith")
    return False


def _is_length(place: ast.expr, part: ast.expr, *, negative: bool) -> bool:
    match place:
        case ast.UnaryOp(op=ast.USub(), operand=inner) if negative:
            return _is_length(inner, part, negative=False)
        case ast.Constant(value=int(count)):
            known = part.value if isinstance(part, ast.Constant) else None
            return (
                isinstance(known, (str, bytes)) and bool(known) and count == (-len(known) if negative else len(known))
            )
        case ast.Call(func=ast.Name(id="len"), args=[inner], keywords=[]):
            return not negative and same(inner, part)
    return False


def same(left: ast.expr, right: ast.expr) -> bool:
    """Says whether two expressions are told alike."""
    return ast.dump(left) == ast.dump(right)


def read_of(target: ast.expr) -> ast.expr:
    """Gives what reads the place that a target writes."""
    match target:
        case ast.Name(id=name):
            return ast.Name(name, ast.Load())
        case ast.Attribute(value=value, attr=attr):
            return ast.Attribute(value, attr, ast.Load())
        case ast.Subscript(value=value, slice=index):
            return ast.Subscript(value, index, ast.Load())
    return target
