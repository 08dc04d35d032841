"""A value that each branch gives a name, and that is returned after them: returned by each branch itself."""

from __future__ import annotations

import ast

from .unique import MARK


def returning(body: list[ast.stmt]) -> list[ast.stmt]:
    """Tells `if a: r = 1`, `else: r = 2`, `return r` as `if a: return 1`, `return 2`; a `try` likewise."""
    match body:
        case [*most, ast.If() | ast.Try() as choice, ast.Return(value=ast.Name(id=name))] if MARK in name:
            told = _told([choice], name)
            if told is None:
                return body
            match told:
                case [ast.If(orelse=[_, *_] as orelse) as first]:
                    return [*most, ast.If(first.test, first.body, []), *orelse]
            return [*most, *told]
    return body


def _told(body: list[ast.stmt], name: str) -> list[ast.stmt] | None:
    """Gives a body that returns what it gave the name at its end; None where it does not give it there."""
    match body:
        case [*most, ast.Assign(targets=[ast.Name(id=given)], value=value)] if given == name:
            return [*most, ast.Return(value)]
        case [*_, ast.Return() | ast.Raise() | ast.Continue() | ast.Break()]:
            return body
        case [*most, ast.If(test=test, body=inner, orelse=orelse)]:
            left, right = _told(inner, name), _told(orelse, name)
            return [*most, ast.If(test, left, right)] if left is not None and right is not None else None
        case [*most, ast.Try(body=inner, handlers=handlers, orelse=[], finalbody=[])]:
            tried = _told(inner, name)
            caught = [_told(handler.body, name) for handler in handlers]
            if tried is None or any(one is None for one in caught):
                return None
            told = [
                ast.ExceptHandler(handler.type, handler.name, one or [])
                for handler, one in zip(handlers, caught, strict=True)
            ]
            return [*most, ast.Try(tried, told, [], [])]
    return None
