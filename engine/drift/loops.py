"""Loops that fill a list, set or dict, or look for one item, and choices of truths: told as the expression for it."""

from __future__ import annotations

import ast

from .conditions import any_of, condition, negated, truth


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
            case _:
                told.append(statement)
    match told:
        case [*most, ast.If(body=[ast.Return(value=ast.Constant(value=bool(yes)))]) as choice]:
            match choice.orelse:
                case [ast.Return(value=ast.Constant(value=bool(no)))] if yes is not no:
                    return [*most, ast.Return(truth(choice.test) if yes else negated(choice.test))]
    return told


def _built(name: str, empty: ast.expr, loop: ast.For) -> ast.expr | None:
    """Gives `[e for x in y if c]`, or what makes a set or dict, for loops that do no more than add to it."""
    generators: list[ast.comprehension] = []
    body: list[ast.stmt] = [loop]
    while len(body) == 1 and isinstance(body[0], (ast.For, ast.If)) and not body[0].orelse:
        match body[0]:
            case ast.For(target=target, iter=over):
                generators.append(ast.comprehension(target, over, [], 0))
            case ast.If(test=test):
                generators[-1].ifs.append(test)
        body = body[0].body
    if len(body) != 1 or (made := _made(name, empty, body[0], generators)) is None:
        return None
    for one in generators:
        one.ifs = [any_of(ast.And(), one.ifs)] if len(one.ifs) > 1 else one.ifs
    return None if any(isinstance(one, ast.Name) and one.id == name for one in ast.walk(made)) else made


def _made(name: str, empty: ast.expr, added: ast.stmt, generators: list[ast.comprehension]) -> ast.expr | None:
    match empty, added:
        case (
            ast.List(elts=[]) | ast.Call(func=ast.Name(id="set"), args=[], keywords=[]),
            ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id=held), attr=way), args=[item], keywords=[])),
        ) if held == name and way == ("append" if isinstance(empty, ast.List) else "add"):
            return ast.ListComp(item, generators) if way == "append" else ast.SetComp(item, generators)
        case (
            ast.Dict(keys=[]),
            ast.Assign(targets=[ast.Subscript(value=ast.Name(id=held), slice=key)], value=value),
        ) if held == name:
            return ast.DictComp(key, value, generators)
    return None


def _asked(loop: ast.For, found: bool) -> ast.expr | None:
    """Gives `any(c for x in y)`, or `not any(…)`, for a loop that returns at the first `c`."""
    choice = loop.body[0]
    if loop.orelse or not isinstance(choice, ast.If) or choice.orelse or len(choice.body) != 1:
        return None
    test = choice.test if found else negated(choice.test)
    over = ast.GeneratorExp(condition(test), [ast.comprehension(loop.target, loop.iter, [], 0)])
    return ast.Call(ast.Name("any" if found else "all", ast.Load()), [over], [])
