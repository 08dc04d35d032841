"""Operators on names: another variable, attribute or exception, other arguments, defaults and results."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from .scopes import BUILTINS, bound_names, by_likeness, local_names, module_names
from .source import Edit, Source

_LIKE = 0.6
"""How alike two names must be spelled, where one may be a slip for the other."""
_OTHERS_MAX = 8
_EXCEPTIONS: Final = ("ValueError", "TypeError", "KeyError", "IndexError", "AttributeError", "OSError", "StopIteration")
_DEFAULTS: Final = ("None", "0", "1", "True", "False", '""', "()")


def variables(source: Source) -> Iterator[Edit]:
    """Another name of the same function in place of a variable; for one that nothing binds, what is spelled like it."""
    known = bound_names(source)
    module = module_names(source)
    locals_of: dict[ast.AST | None, list[str]] = {}
    for node in source.nodes():
        if not isinstance(node, ast.Name) or not isinstance(node.ctx, ast.Load):
            continue
        function = source.function(node)
        if function not in locals_of:
            locals_of[function] = local_names(source, node)
        names = locals_of[function]
        if node.id not in known:
            for other, ratio in by_likeness(node.id, [*names, *module, *BUILTINS])[:_OTHERS_MAX]:
                yield _renamed(source, node, node.id, other, 0.5 + ratio / 2)
        elif node.id in names:
            others = [other for other in names if other not in (node.id, "self", "cls")]
            for other, ratio in by_likeness(node.id, others)[:_OTHERS_MAX]:
                yield _renamed(source, node, node.id, other, 0.3 + 0.2 * ratio)
        elif isinstance(source.parent(node), ast.Call):
            for other, ratio in by_likeness(node.id, [*module, "min", "max", "any", "all"])[:_OTHERS_MAX]:
                paired = {node.id, other} in ({"min", "max"}, {"any", "all"})
                if paired or ratio >= _LIKE:
                    yield _renamed(source, node, node.id, other, 0.7 if paired else 0.35)


def attributes(source: Source) -> Iterator[Edit]:
    """Another attribute that is used in the file: those spelled alike first, then those of the same object."""
    every: dict[str, None] = {}
    of: dict[str, dict[str, None]] = {}
    for node in source.nodes():
        if isinstance(node, ast.Attribute):
            every.setdefault(node.attr)
            of.setdefault(ast.dump(node.value), {}).setdefault(node.attr)
    methods = dict.fromkeys(function.name for function in source.functions)
    for node in source.nodes():
        if not isinstance(node, ast.Attribute):
            continue
        low, high = source.span(node.value)[1], source.span(node)[1]
        length = len(node.attr.encode())
        if source.content[high - length : high] != node.attr.encode() or low >= high:
            continue
        same = of[ast.dump(node.value)]
        ranked = [(other, ratio) for other, ratio in by_likeness(node.attr, [*every, *methods]) if ratio >= _LIKE]
        ranked += [(other, 0.0) for other in same if other != node.attr and other not in dict(ranked)]
        for other, ratio in dict(ranked[: 2 * _OTHERS_MAX]).items():
            weight = 0.15 + 0.25 * ratio
            yield Edit(high - length, high, other.encode(), node.lineno, weight, f".{node.attr} becomes .{other}")


def exceptions(source: Source) -> Iterator[Edit]:
    """Another exception caught or raised: one that the file names elsewhere, or a usual one."""
    used: dict[str, None] = {}
    places: list[ast.expr] = []
    for node in source.nodes():
        match node:
            case ast.ExceptHandler(type=ast.Tuple(elts=kinds)):
                places += kinds
            case ast.ExceptHandler(type=ast.expr() as kind) | ast.Raise(exc=ast.Call(func=kind)):
                places.append(kind)
            case ast.Raise(exc=ast.Name() as kind):
                places.append(kind)
    used.update(dict.fromkeys(source.text(kind) for kind in places))
    for kind in places:
        text = source.text(kind)
        unknown = isinstance(kind, ast.Name) and kind.id not in bound_names(source)
        for other in [*used, *_EXCEPTIONS]:
            if other != text:
                low, high = source.span(kind)
                told = f"{text} becomes {other}"
                yield Edit(low, high, other.encode(), kind.lineno, 1.0 if unknown else 0.25, told)


def arguments(source: Source) -> Iterator[Edit]:
    """Two neighbouring arguments in the other order, or one less; of a subtraction or comparison the sides."""
    for node in source.nodes():
        match node:
            case ast.Call(args=args):
                for first, second in pairwise(args):
                    yield _swapped(source, first, second, 0.4)
                for keyword in node.keywords:
                    yield from _without(source, node, keyword)
                if len(args) > 1:
                    low, high = source.span(args[-2])[1], source.span(args[-1])[1]
                    yield Edit(low, high, b"", node.lineno, 0.15, "the last argument goes")
            case ast.BinOp(op=ast.Sub() | ast.Div() | ast.FloorDiv() | ast.Mod(), left=left, right=right):
                yield _swapped(source, left, right, 0.35)
            case ast.Tuple(elts=[first, second], ctx=ast.Load()):
                yield _swapped(source, first, second, 0.25)
            case ast.IfExp(body=body, orelse=orelse):
                yield _swapped(source, body, orelse, 0.3)


def _without(source: Source, call: ast.Call, keyword: ast.keyword) -> Iterator[Edit]:
    ends = [
        source.span(item)[1] for item in (*call.args, *call.keywords) if source.span(item)[1] < source.span(keyword)[0]
    ]
    if ends:
        yield Edit(max(ends), source.span(keyword)[1], b"", keyword.lineno, 0.15, f"{keyword.arg}= goes")


def _swapped(source: Source, first: ast.expr, second: ast.expr, weight: float) -> Edit:
    (low, left), (right, high) = source.span(first), source.span(second)
    between = source.content[left:right].decode()
    text = f"{source.text(second)}{between}{source.text(first)}"
    return Edit(low, high, text.encode(), first.lineno, weight, "two neighbours change places")


def defaults(source: Source) -> Iterator[Edit]:
    """Another default of a parameter."""
    for function in source.functions:
        for value in [*function.args.defaults, *function.args.kw_defaults]:
            for other in _DEFAULTS if value is not None else ():
                if value is not None and other != source.text(value):
                    yield Edit(*source.span(value), other.encode(), value.lineno, 0.2, f"the default is {other}")


def results(source: Source) -> Iterator[Edit]:
    """Another variable returned, or what stood alone as the last statement of a function."""
    for function in source.functions:
        last = function.body[-1]
        if isinstance(last, ast.Expr) and not isinstance(last.value, ast.Constant):
            low, _ = source.span(last)
            yield Edit(low, low, b"return ", last.lineno, 0.7, "the last value is returned")
    for node in source.nodes():
        if isinstance(node, ast.Return):
            low, high = source.span(node)
            shown = source.text(node.value) if node.value is not None else ""
            for name in local_names(source, node)[: 2 * _OTHERS_MAX]:
                if name != shown:
                    weight = 0.3 if node.value is None or isinstance(node.value, ast.Constant) else 0.12
                    yield Edit(low, high, f"return {name}".encode(), node.lineno, weight, f"returns {name}")


def _renamed(source: Source, node: ast.expr, name: str, other: str, weight: float) -> Edit:
    return Edit(*source.span(node), other.encode(), node.lineno, weight, f"{name} becomes {other}")
