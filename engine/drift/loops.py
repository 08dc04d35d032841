"""Loops that build a list or look for one item, and choices of truths: told as the expression that does the same."""

from __future__ import annotations

import ast

from .conditions import any_of, condition, negated, truth


def gathered(body: list[ast.stmt]) -> list[ast.stmt]:
    """Tells loops that build a list, or look for one item, as the expression that does the same."""
    told: list[ast.stmt] = []
    for statement in body:
        before = told[-1] if told else None
        match before, statement:
            case (
                ast.Assign(targets=[ast.Name(id=name) as target], value=ast.List(elts=[])),
                ast.For(orelse=[]),
            ) if (built := _built(name, statement)) is not None:
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


def _built(name: str, loop: ast.For) -> ast.expr | None:
    """Gives `[e for x in y if c]` for a loop that does no more than append `e`."""
    conditions: list[ast.expr] = []
    body = loop.body
    while len(body) == 1 and isinstance(body[0], ast.If) and not body[0].orelse:
        conditions.append(body[0].test)
        body = body[0].body
    match body:
        case [
            ast.Expr(
                value=ast.Call(
                    func=ast.Attribute(value=ast.Name(id=held), attr="append"),
                    args=[item],
                    keywords=[],
                )
            )
        ] if held == name:
            parts = [item, loop.iter, *conditions]
            if any(isinstance(one, ast.Name) and one.id == name for part in parts for one in ast.walk(part)):
                return None
            kept = [any_of(ast.And(), conditions)] if len(conditions) > 1 else conditions
            return ast.ListComp(item, [ast.comprehension(loop.target, loop.iter, kept, 0)])
    return None


def _asked(loop: ast.For, found: bool) -> ast.expr | None:
    """Gives `any(c for x in y)`, or `not any(…)`, for a loop that returns at the first `c`."""
    choice = loop.body[0]
    if loop.orelse or not isinstance(choice, ast.If) or choice.orelse or len(choice.body) != 1:
        return None
    test = choice.test if found else negated(choice.test)
    over = ast.GeneratorExp(condition(test), [ast.comprehension(loop.target, loop.iter, [], 0)])
    return ast.Call(ast.Name("any" if found else "all", ast.Load()), [over], [])
