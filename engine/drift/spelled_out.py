"""Calls that stand for statements: `setattr`, `extend` of what stands there, `update` with keys, `setdefault`."""

from __future__ import annotations

import ast

from .calls import is_word


def spelled_out(call: ast.Call) -> list[ast.stmt] | None:
    """Gives the statements that a call stands for whose value nobody reads, or None."""
    match call:
        case ast.Call(func=ast.Name(id="setattr"), args=[holder, ast.Constant(value=name), value], keywords=[]):
            return [ast.Assign([ast.Attribute(holder, str(name), ast.Store())], value)] if is_word(name) else None
        case ast.Call(func=ast.Name(id="delattr"), args=[holder, ast.Constant(value=name)], keywords=[]):
            return [ast.Delete([ast.Attribute(holder, str(name), ast.Del())])] if is_word(name) else None
        case ast.Call(func=ast.Attribute(value=held, attr=way), args=arguments, keywords=keywords) if is_place(held):
            return _of_method(held, way, arguments, keywords)
    return None


def is_place(node: ast.expr) -> bool:
    """Says whether an expression is a name or an attribute of one: the same however often it is asked for."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return isinstance(node, ast.Name)


def appended(held: ast.expr, items: list[ast.expr]) -> list[ast.stmt]:
    """Gives what appends each of some items to a list."""
    told: list[ast.stmt] = []
    for item in items:
        way, value = ("extend", item.value) if isinstance(item, ast.Starred) else ("append", item)
        told.append(ast.Expr(ast.Call(ast.Attribute(held, way, ast.Load()), [value], [])))
    return told


def _of_method(
    held: ast.expr, way: str, arguments: list[ast.expr], keywords: list[ast.keyword]
) -> list[ast.stmt] | None:
    match way, arguments, keywords:
        case "extend", [ast.List(elts=items) | ast.Tuple(elts=items)], []:
            return appended(held, items) if items else None
        case "update", [ast.Dict(keys=[_, *_] as keys, values=values)], [] if None not in keys:
            return [
                ast.Assign([ast.Subscript(held, key, ast.Store())], value)
                for key, value in zip(keys, values, strict=True)
                if key is not None
            ]
        case "update", [], [_, *_] if all(key.arg for key in keywords):
            return [
                ast.Assign([ast.Subscript(held, ast.Constant(key.arg), ast.Store())], key.value) for key in keywords
            ]
        case "setdefault", [ast.Name() | ast.Attribute() | ast.Constant() as key, value], [] if _is_still(value):
            put = ast.Assign([ast.Subscript(held, key, ast.Store())], value)
            return [ast.If(ast.Compare(key, [ast.NotIn()], [held]), [put], [])]
    return None


def _is_still(value: ast.expr) -> bool:
    """Says whether it does not matter if a value is made in vain."""
    match value:
        case ast.Constant() | ast.Name() | ast.List(elts=[]) | ast.Dict(keys=[]) | ast.Tuple(elts=[]):
            return True
    return False
