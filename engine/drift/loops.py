"""Loops that fill a list, set or dict, or look for one item, and choices of truths: told as the expression for it."""

from __future__ import annotations

import ast
from typing import Final

from .calls import EACH, iterable
from .choices import chosen_by
from .conditions import any_of, condition, negated, truth
from .spelled_out import is_place
from .unique import MARK

_GATHERED: Final = frozenset({"append", "add", "extend", "update", "difference_update"})
_NOT_IN: Final = (ast.Yield, ast.YieldFrom, ast.Await, ast.NamedExpr)
"""What cannot move into a generator, or would be another there."""


def gathered(body: list[ast.stmt]) -> list[ast.stmt]:
    """Tells loops that build a list, set or dict, or look for one item, as the expression that does the same."""
    told: list[ast.stmt] = []
    for statement in body:
        before = told[-1] if told else None
        match before, statement:
            case (
                ast.Assign(targets=[ast.Name(id=name) as target], value=empty),
                ast.For(orelse=[]),
            ) if (built := _built(name, empty, statement)) is not None:
                told[-1] = ast.Assign([target], built)
            case ast.For(body=[ast.If(body=[ast.Return(value=ast.Constant(value=bool(found)))])]) as loop, ast.Return(
                value=ast.Constant(value=bool(none))
            ) if found is not none and (asked := _asked(loop, found)) is not None:
                told[-1] = ast.Return(asked)
            case ast.If(body=[ast.Return(value=ast.Constant(value=bool(yes)))], orelse=[]) as choice, ast.Return(
                value=ast.Constant(value=bool(no))
            ) if yes is not no:
                told[-1] = ast.Return(truth(choice.test) if yes else negated(choice.test))
            case ast.For(body=[ast.If(body=[ast.Return(value=ast.expr() as item)])]) as loop, ast.Return(
                value=otherwise
            ) if (found_first := _first(loop, item, otherwise)) is not None:
                told[-1] = ast.Return(found_first)
            case ast.If(test=test, body=[ast.Return(value=ast.expr() as first)], orelse=[]), ast.Return(
                value=ast.expr() as last
            ) if (chosen := chosen_by(test, first, last)) is not None:
                told[-1] = ast.Return(chosen)
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant() | ast.Name()) as usual,
                ast.If(body=[ast.Assign(targets=[ast.Name(id=again)], value=given)], orelse=[]) as choice,
            ) if name == again and not _mentions(choice.test, name) and not _mentions(given, name):
                told[-1] = ast.If(choice.test, choice.body, [usual])
            case _, ast.For():
                told.append(_gathering(statement) or statement)
            case _:
                told.append(statement)
    match told:
        case [*most, ast.If(body=[ast.Return(value=ast.Constant(value=bool(yes)))]) as choice]:
            match choice.orelse:
                case [ast.Return(value=ast.Constant(value=bool(no)))] if yes is not no:
                    return [*most, ast.Return(truth(choice.test) if yes else negated(choice.test))]
    return told


def _gathering(loop: ast.For) -> ast.stmt | None:
    """Gives `a.extend(e for x in y)` or `a.update(…)` for a loop that does no more than add to something."""
    body: list[ast.stmt] = [loop]
    while len(body) == 1 and isinstance(body[0], (ast.For, ast.If)) and not body[0].orelse:
        body = body[0].body
    match body:
        case [ast.Expr(value=ast.Call(func=ast.Attribute(value=held, attr=way), args=[_], keywords=[]))] if (
            way in _GATHERED and is_place(held)
        ):
            found = _generated(loop, held, way)
            if found is None:
                return None
            name = {"append": "extend", "add": "update"}.get(way, way)
            return ast.Expr(ast.Call(ast.Attribute(held, name, ast.Load()), [iterable(found)], []))
    return None


def _generated(loop: ast.For, held: ast.expr, way: str) -> ast.GeneratorExp | None:
    generators: list[ast.comprehension] = []
    leaf = _leaf(loop, generators)
    match leaf:
        case ast.Expr(value=ast.Call(args=[item])):
            item = _flat(item, generators) if way in {"extend", "update"} else item
            made = ast.GeneratorExp(item, generators)
            bound = {one.id for one in ast.walk(made) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}
            free = any(isinstance(one, ast.Name) and one.id in bound for one in ast.walk(held))
            asked = ast.dump(held)
            if free or any(isinstance(one, _NOT_IN) or ast.dump(one) == asked for one in ast.walk(made)):
                return None
            return made
    return None


def _flat(item: ast.expr, generators: list[ast.comprehension]) -> ast.expr:
    """Gives each item of what is added at once, its loops put with the others."""
    if isinstance(item, ast.GeneratorExp):
        generators += item.generators
        return item.elt
    generators.append(ast.comprehension(ast.Name(EACH, ast.Store()), item, [], 0))
    return ast.Name(EACH, ast.Load())


def _leaf(loop: ast.For, generators: list[ast.comprehension]) -> ast.stmt:
    """Gives the one statement within loops and conditions, which become generators."""
    body: list[ast.stmt] = [loop]
    while len(body) == 1 and isinstance(body[0], (ast.For, ast.If)) and not body[0].orelse:
        match body[0]:
            case ast.For(target=target, iter=over):
                generators.append(ast.comprehension(target, over, [], 0))
            case ast.If(test=test):
                generators[-1].ifs.append(test)
        body = body[0].body
    for one in generators:
        one.ifs = [any_of(ast.And(), one.ifs)] if len(one.ifs) > 1 else one.ifs
    return body[0] if len(body) == 1 else loop


def _built(name: str, empty: ast.expr, loop: ast.For) -> ast.expr | None:
    """Gives `[e for x in y if c]`, or what makes a set or dict, for loops that do no more than add to it."""
    generators: list[ast.comprehension] = []
    leaf = _leaf(loop, generators)
    if leaf is loop or (made := _made(name, empty, leaf, generators)) is None:
        return None
    return None if any(isinstance(one, ast.Name) and one.id == name for one in ast.walk(made)) else made


def _made(name: str, empty: ast.expr, added: ast.stmt, generators: list[ast.comprehension]) -> ast.expr | None:
    match empty, added:
        case (
            ast.List(elts=[]) | ast.Call(func=ast.Name(id="set"), args=[], keywords=[]),
            ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id=held), attr=way), args=[item], keywords=[])),
        ) if held == name and way == ("append" if isinstance(empty, ast.List) else "add"):
            return ast.ListComp(item, generators) if way == "append" else ast.SetComp(item, generators)
        case (
            ast.List(elts=[]),
            ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id=held), attr="extend"), args=[items])),
        ) if held == name:
            return ast.ListComp(_flat(items, generators), generators)
        case (
            ast.Constant(value=0),
            ast.AugAssign(target=ast.Name(id=held), op=ast.Add(), value=value),
        ) if held == name and type(empty.value) is int:
            summed = ast.GeneratorExp(value, generators)
            return ast.Call(ast.Name("sum", ast.Load()), [iterable(summed)], [])
        case (
            ast.Dict(keys=[]),
            ast.Assign(targets=[ast.Subscript(value=ast.Name(id=held), slice=key)], value=value),
        ) if held == name:
            return ast.DictComp(key, value, generators)
    return None


def _first(loop: ast.For, item: ast.expr, otherwise: ast.expr | None) -> ast.expr | None:
    """Gives `next((e for x in y if c), d)` for a loop that returns the first `e`."""
    choice = loop.body[0]
    if loop.orelse or not isinstance(choice, ast.If) or choice.orelse or isinstance(item, ast.Constant):
        return None
    if not (otherwise is None or isinstance(otherwise, (ast.Constant, ast.Name))):
        return None
    over = ast.GeneratorExp(item, [ast.comprehension(loop.target, loop.iter, [choice.test], 0)])
    return ast.Call(ast.Name("next", ast.Load()), [over, otherwise or ast.Constant(None)], [])


def _mentions(node: ast.AST, name: str) -> bool:
    return any(isinstance(one, ast.Name) and one.id == name for one in ast.walk(node))


def without_unused(whole: ast.AST) -> None:
    """Tells `for _, v in d.items()` as `for v in d.values()`, and the like, where a local's value is never read."""
    read = {one.id for one in ast.walk(whole) if isinstance(one, ast.Name) and not isinstance(one.ctx, ast.Store)}
    for node in ast.walk(whole):
        if not isinstance(node, (ast.For, ast.comprehension)):
            continue
        match node.target, node.iter:
            case ast.Tuple(elts=[first, second]), ast.Call(func=ast.Attribute(value=held, attr="items"), args=[]):
                if _is_unread(second, read):
                    node.target, node.iter = first, held
                elif _is_unread(first, read):
                    values = ast.Attribute(held, "values", ast.Load())
                    node.target, node.iter = second, ast.Call(values, [], [])
            case ast.Tuple(elts=[first, second]), ast.Call(func=ast.Name(id="enumerate"), args=[held, *_]):
                if _is_unread(first, read):
                    node.target, node.iter = second, held


def _is_unread(target: ast.expr, read: set[str]) -> bool:
    return isinstance(target, ast.Name) and MARK in target.id and target.id not in read


def _asked(loop: ast.For, found: bool) -> ast.expr | None:
    """Gives `any(c for x in y)`, or `not any(…)`, for a loop that returns at the first `c`."""
    choice = loop.body[0]
    if loop.orelse or not isinstance(choice, ast.If) or choice.orelse or len(choice.body) != 1:
        return None
    test = choice.test if found else negated(choice.test)
    over = ast.GeneratorExp(condition(test), [ast.comprehension(loop.target, loop.iter, [], 0)])
    return ast.Call(ast.Name("any" if found else "all", ast.Load()), [over], [])
