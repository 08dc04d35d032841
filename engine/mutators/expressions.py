"""Operators on expressions: comparisons, arithmetic, and, or, not, numbers off by one, constants."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator, Sequence
from typing import Final

from instar.engine.drift.facets import SIGNS

from .source import Edit, Source, enclosed

_SWAPS: Final[dict[str, tuple[tuple[str, float], ...]]] = {
    "<": (("<=", 1.0), (">", 0.8), (">=", 0.7), ("==", 0.5), ("!=", 0.5)),
    "<=": (("<", 1.0), (">=", 0.8), (">", 0.7), ("==", 0.5), ("!=", 0.5)),
    ">": ((">=", 1.0), ("<", 0.8), ("<=", 0.7), ("==", 0.5), ("!=", 0.5)),
    ">=": ((">", 1.0), ("<=", 0.8), ("<", 0.7), ("==", 0.5), ("!=", 0.5)),
    "==": (("!=", 0.9), ("<=", 0.4), (">=", 0.4), ("<", 0.3), (">", 0.3), ("in", 0.2)),
    "!=": (("==", 0.9), ("<", 0.4), (">", 0.4), ("<=", 0.3), (">=", 0.3), ("not in", 0.2)),
    "is": (("is not", 0.9), ("==", 0.5)),
    "is not": (("is", 0.9), ("!=", 0.5)),
    "in": (("not in", 0.9), ("==", 0.2)),
    "not in": (("in", 0.9), ("!=", 0.2)),
}
"""What each comparison may have meant, the likeliest first: its boundary, its opposite, the rest."""
_ARITHMETIC: Final = {
    kind: sign for kind, sign in SIGNS.items() if issubclass(kind, ast.operator) and kind is not ast.MatMult
}
_PAIRED: Final = {
    "+": "-",
    "-": "+",
    "*": "/",
    "/": "//",
    "//": "/",
    "%": "//",
    "<<": ">>",
    ">>": "<<",
    "|": "&",
    "&": "|",
}
_USUAL: Final = {"+": 0.6, "-": 0.6, "*": 0.4, "//": 0.35, "/": 0.3, "%": 0.35, "|": 0.25, "&": 0.25}
_STRINGS_MAX = 6


def comparisons(source: Source) -> Iterator[Edit]:
    """Other comparisons in place of each: the boundary, the opposite, and what is left."""
    for node in source.nodes():
        if not isinstance(node, ast.Compare):
            continue
        left: ast.expr = node.left
        for operator, right in zip(node.ops, node.comparators, strict=True):
            written = SIGNS[type(operator)]
            place = source.token(source.span(left)[1], source.span(right)[0], written)
            for other, weight in _SWAPS[written] if place else ():
                yield _edit(place, other, right.lineno, weight, f"{written} becomes {other}")
            left = right


def arithmetic(source: Source) -> Iterator[Edit]:
    """Other arithmetic in place of each, or one side alone."""
    for node in source.nodes():
        match node:
            case ast.BinOp(left=left, op=operator, right=right):
                low, high = source.span(left)[1], source.span(right)[0]
            case ast.AugAssign(target=left, op=operator, value=right):
                low, high = source.span(left)[1], source.span(right)[0]
            case _:
                continue
        written = _ARITHMETIC.get(type(operator))
        place = source.token(low, high, written) if written else None
        if written is None or place is None or (isinstance(left, ast.Constant) and isinstance(left.value, str | bytes)):
            continue
        for other in dict.fromkeys([_PAIRED.get(written, "+"), *_USUAL, *_ARITHMETIC.values()]):
            if other != written:
                weight = 0.8 if other == _PAIRED.get(written) else _USUAL.get(other, 0.15)
                yield _edit(place, other, node.lineno, weight, f"{written} becomes {other}")
        if isinstance(node, ast.BinOp):
            for side in (left, right):
                alone = enclosed(source.text(side), side)
                yield _edit(source.span(node), alone, node.lineno, 0.3, f"only {_short(alone)}")


def logic(source: Source) -> Iterator[Edit]:
    """``and`` for ``or`` and the reverse, an operand less, and a condition or operand negated or no longer negated."""
    for node in source.nodes():
        if isinstance(node, ast.BoolOp):
            yield from _junctions(source, node)
        elif isinstance(node, ast.UnaryOp):
            inner = source.text(node.operand)
            if isinstance(node.op, ast.Not):
                bare = enclosed(inner, node.operand) if isinstance(node.operand, ast.BoolOp) else inner
                yield _edit(source.span(node), bare, node.lineno, 1.0, "not goes")
            elif isinstance(node.op, ast.USub | ast.Invert):
                yield _edit(source.span(node), enclosed(inner, node.operand), node.lineno, 0.7, "the sign goes")
        for condition in _conditions(node):
            if not isinstance(condition, ast.UnaryOp | ast.Compare):
                negated = f"not {enclosed(source.text(condition), condition)}"
                yield _edit(source.span(condition), negated, condition.lineno, 0.7, f"{negated[:40]}")
            elif isinstance(condition, ast.Compare) and len(condition.ops) > 1:
                negated = f"not ({source.text(condition)})"
                yield _edit(source.span(condition), negated, condition.lineno, 0.5, "the condition is negated")
            for value, weight in (("True", 0.25), ("False", 0.25)):
                yield _edit(source.span(condition), value, condition.lineno, weight, f"the condition is {value}")


def _junctions(source: Source, node: ast.BoolOp) -> Iterator[Edit]:
    written, other = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
    for left, right in zip(node.values, node.values[1:], strict=False):
        place = source.token(source.span(left)[1], source.span(right)[0], written)
        if place:
            yield _edit(place, other, right.lineno, 0.9, f"{written} becomes {other}")
    whole, spans = source.span(node), [source.span(value) for value in node.values]
    if len(node.values) == 2:
        for value in node.values:
            alone = enclosed(source.text(value), value)
            yield _edit(whole, alone, node.lineno, 0.5, f"only {_short(alone)}")
    else:
        # An operand goes with the word that joins it to its neighbour; half a bracket left over does not parse.
        for (_, first), (_, second) in itertools.pairwise(spans):
            yield _edit((first, second), "", node.lineno, 0.4, "an operand goes")


def _conditions(node: ast.AST) -> list[ast.expr]:
    match node:
        case ast.If(test=test) | ast.While(test=test) | ast.IfExp(test=test) | ast.Assert(test=test):
            return list(test.values) if isinstance(test, ast.BoolOp) else [test]
        case ast.comprehension(ifs=ifs):
            return ifs
        case ast.BoolOp(values=values):
            return values
        case ast.Return(value=ast.Call() | ast.Compare() | ast.Name() | ast.Attribute() as value):
            return [value]
    return []


def constants(source: Source) -> Iterator[Edit]:
    """Numbers off by one, other truth values, and strings and numbers that stand elsewhere in the file."""
    strings: dict[str | bytes, ast.Constant] = {}
    numbers: dict[object, None] = {}
    found = [node for node in source.nodes() if isinstance(node, ast.Constant) and not _is_doc(source, node)]
    for node in found:
        if isinstance(node.value, str | bytes):
            strings.setdefault(node.value, node)
        elif isinstance(node.value, int | float) and not isinstance(node.value, bool):
            numbers.setdefault(node.value)
    for node in found:
        match node.value:
            case bool():
                yield _edit(source.span(node), str(not node.value), node.lineno, 0.9, f"{not node.value}")
            case int() | float():
                yield from _numbers(source, node, list(numbers))
            case str() | bytes():
                yield from _strings(source, node, strings)
            case None:
                for other in ("True", "False", "0"):
                    yield _edit(source.span(node), other, node.lineno, 0.15, f"None becomes {other}")


def _numbers(source: Source, node: ast.Constant, known: list[object]) -> Iterator[Edit]:
    value = node.value
    assert isinstance(value, int | float)
    likely: dict[object, float] = {value - 1: 0.8, value + 1: 0.8}
    likely |= {other: likely.get(other, 0.4) for other in (0, 1)}
    likely |= {other: 0.2 for other in known if other not in likely}
    for other, weight in likely.items():
        if other != value:
            text = f"({other})" if isinstance(other, int | float) and other < 0 else f"{other}"
            yield _edit(source.span(node), text, node.lineno, weight, f"{value} becomes {other}")


def _strings(source: Source, node: ast.Constant, known: dict[str | bytes, ast.Constant]) -> Iterator[Edit]:
    alike = [other for other in known.values() if type(other.value) is type(node.value) and other.value != node.value]
    near = sorted(alike, key=lambda other: abs(other.lineno - node.lineno))[:_STRINGS_MAX]
    for place, other in enumerate(near):
        text = source.text(other)
        yield _edit(
            source.span(node), text, node.lineno, 0.25 / (1 + place), f"{_short(text)} from line {other.lineno}"
        )
    if isinstance(node.value, str | bytes) and node.value:
        yield _edit(source.span(node), repr(node.value[:0]), node.lineno, 0.1, "an empty string")


def off_by_one(source: Source) -> Iterator[Edit]:
    """One more or one less in an index, a bound of a slice, a range or a comparison; or a ±1 that goes."""
    for node in source.nodes():
        match node:
            case ast.BinOp(op=ast.Add() | ast.Sub(), left=left, right=ast.Constant(value=1)):
                yield _edit(source.span(node), enclosed(source.text(left), left), node.lineno, 0.6, "a 1 goes")
            case ast.Subscript(slice=ast.Slice(lower=lower, upper=upper)):
                yield from _ones(source, [lower, upper], 0.4)
            case ast.Subscript(slice=index):
                yield from _ones(source, [index], 0.4)
            case ast.Call(func=ast.Name(id="range"), args=bounds):
                yield from _ones(source, bounds, 0.6)
            case ast.Compare(ops=[ast.Lt() | ast.LtE() | ast.Gt() | ast.GtE()], comparators=[right]):
                yield from _ones(source, [right], 0.3)
            case ast.Return(value=ast.Name() | ast.Call() | ast.BinOp() as value):
                yield from _ones(source, [value], 0.1)


def _ones(source: Source, values: Sequence[ast.expr | None], weight: float) -> Iterator[Edit]:
    for value in values:
        if isinstance(value, ast.Name | ast.Call | ast.BinOp | ast.Attribute | ast.Subscript):
            for tail in (" - 1", " + 1"):
                text = source.text(value) if isinstance(value, ast.BinOp) else enclosed(source.text(value), value)
                yield _edit(source.span(value), text + tail, value.lineno, weight, f"{_short(text)}{tail}")


def _is_doc(source: Source, node: ast.Constant) -> bool:
    return isinstance(node.value, str) and isinstance(source.parent(node), ast.Expr | ast.JoinedStr)


def _edit(place: tuple[int, int] | None, text: str, line: int, weight: float, description: str) -> Edit:
    assert place is not None
    return Edit(*place, text.encode(), line, weight, description)


def _short(text: str) -> str:
    return " ".join(text.split())[:40]
