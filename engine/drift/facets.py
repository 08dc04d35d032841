"""What code does, as a list of its calls, constants, branches, errors, parameters: two lists explain a change."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

from instar.engine.differences.bindings import bound
from instar.engine.differences.syntax import Definition

from .calls import IMPORTED, dotted
from .unique import MARK

LINES_MAX: Final = 6
TEXT_MAX: Final = 48
SIGNS: Final[dict[type[ast.AST], str]] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.FloorDiv: "//",
    ast.Mod: "%",
    ast.Pow: "**",
    ast.LShift: "<<",
    ast.RShift: ">>",
    ast.BitOr: "|",
    ast.BitAnd: "&",
    ast.BitXor: "^",
    ast.MatMult: "@",
    ast.UAdd: "+",
    ast.USub: "-",
    ast.Invert: "~",
    ast.Not: "not",
    ast.And: "and",
    ast.Or: "or",
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Is: "is",
    ast.IsNot: "is not",
    ast.In: "in",
    ast.NotIn: "not in",
}
_FLOW: Final[dict[type[ast.AST], str]] = {
    ast.If: "if",
    ast.IfExp: "if … else",
    ast.For: "for",
    ast.AsyncFor: "async for",
    ast.While: "while",
    ast.Return: "return",
    ast.Break: "break",
    ast.Continue: "continue",
    ast.Try: "try",
    ast.With: "with",
    ast.Yield: "yield",
    ast.YieldFrom: "yield from",
    ast.Await: "await",
    ast.Assert: "assert",
    ast.Match: "match",
    ast.Delete: "del",
    ast.Global: "global",
}
Facet = tuple[str, str]
_MARKED: Final = re.compile(rf"{MARK}\d+")


def facets(root: ast.Module | Definition) -> Counter[Facet]:
    """Lists what a definition does: pairs of a kind and what stands there, each as often as it does."""
    locals_: set[str] = set()
    for one in ast.walk(root):
        if isinstance(one, (ast.FunctionDef, ast.AsyncFunctionDef)):
            locals_.update(bound(one.body))
            locals_.update(argument.arg for argument in ast.walk(one.args) if isinstance(argument, ast.arg))
    found: Counter[Facet] = Counter()
    for node in ast.walk(root):
        found.update(_told(node, locals_))
    return found


def _told(node: ast.AST, locals_: set[str]) -> Iterator[Facet]:
    if type(node) in _FLOW:
        yield "flow", _FLOW[type(node)]
    match node:
        case ast.Call(func=func, keywords=keywords):
            yield "call", _callee(func, locals_)
            yield from (("keyword", f"{key.arg}=") for key in keywords if key.arg)
        case ast.Constant(value=value):
            yield ("text" if isinstance(value, (str, bytes)) else "constant"), _short(repr(value))
        case ast.Compare(ops=ops):
            yield from (("comparison", SIGNS[type(op)]) for op in ops)
        case ast.BinOp(op=op) | ast.UnaryOp(op=op) | ast.BoolOp(op=op):
            yield "operator", SIGNS[type(op)]
        case ast.AugAssign(op=op):
            yield "operator", f"{SIGNS[type(op)]}="
        case ast.Raise(exc=kind):
            yield "raise", _text(kind.func if isinstance(kind, ast.Call) else kind)
        case ast.ExceptHandler(type=kind):
            yield "except", _text(kind)
        case ast.Attribute(attr=name, ctx=ast.Store() | ast.Del()):
            yield "assignment", f".{name}"
        case ast.Attribute(attr=name):
            yield "attribute", f".{name}"
        case ast.Name(id=name, ctx=ast.Load()) if name not in locals_:
            yield "name", name.removeprefix(IMPORTED)
        case ast.ClassDef(bases=bases, decorator_list=decorators):
            yield from (("base", _text(base)) for base in bases)
            yield from (("decorator", f"@{_text(one)}") for one in decorators)
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            yield from (("decorator", f"@{_text(one)}") for one in node.decorator_list)
            yield from _parameters(node.args)


def _parameters(arguments: ast.arguments) -> Iterator[Facet]:
    placed = [*arguments.posonlyargs, *arguments.args]
    yield from (("parameter", argument.arg) for argument in (*placed, *arguments.kwonlyargs))
    with_default = zip(placed[len(placed) - len(arguments.defaults) :], arguments.defaults, strict=True)
    named = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    yield from (("default", f"{argument.arg}={_text(value)}") for argument, value in (*with_default, *named) if value)


def _callee(func: ast.expr, locals_: set[str]) -> str:
    name = dotted(func)
    if name is None:
        return f".{func.attr}" if isinstance(func, ast.Attribute) else _text(func)
    root, _, rest = name.partition(".")
    return f".{rest}" if root in locals_ and rest else _MARKED.sub("", name)


def _text(node: ast.AST | None) -> str:
    if node is None:
        return "again"
    try:
        return _short(ast.unparse(ast.fix_missing_locations(node)).replace(IMPORTED, ""))
    except (ValueError, AttributeError, RecursionError):
        return type(node).__name__


def _short(text: str) -> str:
    one = " ".join(_MARKED.sub("", text).split())
    return one if len(one) <= TEXT_MAX else f"{one[: TEXT_MAX - 1]}…"


_ORDER: Final = (
    "base",
    "decorator",
    "parameter",
    "default",
    "raise",
    "except",
    "comparison",
    "operator",
    "constant",
    "text",
    "call",
    "keyword",
    "assignment",
    "flow",
    "attribute",
    "name",
)


def explained(before: Counter[Facet], after: Counter[Facet]) -> list[str]:
    """Says in words what differs between two lists, the most telling first."""
    gone, new = before - after, after - before
    lines: list[str] = []
    told: set[str] = set()
    for kind in _ORDER:
        old = [text for (one, text), count in sorted(gone.items()) if one == kind for _ in range(count)]
        now = [text for (one, text), count in sorted(new.items()) if one == kind for _ in range(count)]
        if kind in {"attribute", "name"}:  # a call or an error names them already
            old, now = [one for one in old if _new(one, told)], [one for one in now if _new(one, told)]
        if len(old) == len(now) == 1:
            lines.append(f"{kind} {old[0]} → {now[0]}")
        else:
            lines += (f"{kind} {text} added" for text in dict.fromkeys(now))
            lines += (f"{kind} {text} removed" for text in dict.fromkeys(old))
        told.update((*old, *now))
    more = len(lines) - LINES_MAX
    return lines if more <= 0 else [*lines[:LINES_MAX], f"and {more} more"]


def _new(text: str, told: set[str]) -> bool:
    return not any(text.lstrip(".") in one for one in told)
