"""The one form of a text that is put together: f-string, `%`, `format`, `+` and `join` of the same parts are equal.

What a value of another type would do differs (`"a" + 1` raises, an f-string does not): this is the form of code that
works, which is why two sources that are equal only by it count as rewritten, not as untouched.
"""

from __future__ import annotations

import ast
import re
from string import Formatter
from typing import Final

PLAIN: Final = -1
_CONVERSIONS: Final = {"str": PLAIN, "repr": ord("r"), "ascii": ord("a")}
_PERCENT: Final = re.compile(r"%(?:(%)|(?:\((\w+)\))?([-+ #0]*\d*(?:\.\d+)?)([a-zA-Z]))")
_NUMBERED: Final = re.compile(r"\{(\d+)(?=[}!:.\[])")


def joined(node: ast.expr) -> ast.expr:
    """Gives the joined form of an expression that builds a text, or the expression itself.

    Its parts are taken to be in this form already.
    """
    parts = _parts(node)
    if parts is None:
        return node
    told = _merged(parts)
    match told:
        case []:
            return ast.Constant("")
        case [ast.Constant() as only]:
            return only
        case [ast.FormattedValue(conversion=-1, format_spec=None, value=value)]:
            return _call("str", value)
    return ast.JoinedStr(told)


def is_text(node: ast.expr) -> bool:
    """Says whether an expression is plainly a text."""
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _parts(node: ast.expr) -> list[ast.expr] | None:
    match node:
        case ast.JoinedStr(values=values):
            return list(values)
        case ast.BinOp(op=ast.Add()):
            chain = _chain(node)
            return [_part(one) for one in chain] if any(map(is_text, chain)) else None
        case ast.BinOp(op=ast.Mod(), left=ast.Constant(value=str(template)), right=right):
            return _percent(template, right)
        case ast.Call(func=ast.Attribute(value=ast.Constant(value=str(template)), attr="format")):
            return _format(template, node)
        case ast.Call(
            func=ast.Attribute(value=ast.Constant(value=str(between)), attr="join"),
            args=[ast.List(elts=items) | ast.Tuple(elts=items)],
            keywords=[],
        ) if items and not any(isinstance(item, ast.Starred) for item in items):
            found: list[ast.expr] = []
            for item in items:
                found += [ast.Constant(between), _part(item)] if found else [_part(item)]
            return found
    return None


def _chain(node: ast.expr) -> list[ast.expr]:
    """Operands of a sum, from the left."""
    found: list[ast.expr] = []
    while isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        found.append(node.right)
        node = node.left
    return [node, *found[::-1]]


def _part(value: ast.expr, conversion: int = PLAIN, spec: ast.expr | None = None) -> ast.expr:
    """A part of a text: a constant, or a value that is formatted."""
    if conversion == ord("s"):
        conversion = PLAIN
    if conversion == PLAIN and spec is None:
        match value:
            case ast.Call(func=ast.Name(id=name), args=[inner], keywords=[]) if name in _CONVERSIONS:
                return ast.FormattedValue(inner, _CONVERSIONS[name], None)
            case ast.Call(func=ast.Name(id="format"), args=[inner, ast.Constant(value=str(text))], keywords=[]):
                return _part(inner, PLAIN, _spec(text))
    if spec is not None and _is_int(value):
        spec = _without_d(spec)
    return value if is_text(value) and spec is None and conversion == PLAIN else _formatted(value, conversion, spec)


def _is_int(value: ast.expr) -> bool:
    match value:
        case ast.Call(func=ast.Name(id="len" | "ord" | "hash" | "id")) | ast.Constant(value=int()):
            return True
        case ast.Call(func=ast.Name(id="int"), args=[_]):
            return True
    return False


def _without_d(spec: ast.expr) -> ast.expr | None:
    """`{n:d}` and `{n}` of an integer are the same text."""
    match spec:
        case ast.JoinedStr(values=[ast.Constant(value=str(text))]) if text.endswith("d"):
            return _spec(text[:-1])
    return spec


def _formatted(value: ast.expr, conversion: int, spec: ast.expr | None) -> ast.FormattedValue:
    return ast.FormattedValue(value, conversion, spec)


def _spec(text: str) -> ast.expr | None:
    return ast.JoinedStr([ast.Constant(text)]) if text else None


def _merged(parts: list[ast.expr]) -> list[ast.expr]:
    """Joins neighbouring constants, and takes nested texts apart."""
    told: list[ast.expr] = []
    waiting = parts[::-1]
    while waiting:
        part = waiting.pop()
        if isinstance(part, ast.FormattedValue):
            again = _part(part.value, part.conversion, part.format_spec)
            if not isinstance(again, ast.FormattedValue):
                waiting.append(again)
                continue
            part = again
        match part:
            case ast.JoinedStr(values=values):
                waiting += values[::-1]
            case ast.Constant(value=str(text)):
                if told and isinstance(told[-1], ast.Constant):
                    told[-1] = ast.Constant(f"{told[-1].value!s}{text}")
                elif text:
                    told.append(ast.Constant(text))
            case _:
                told.append(part)
    return told


def _percent(template: str, right: ast.expr) -> list[ast.expr] | None:
    values = list(right.elts) if isinstance(right, ast.Tuple) else [right]
    named = isinstance(right, ast.Dict)
    keys = {
        key.value: value
        for key, value in (zip(right.keys, right.values, strict=True) if isinstance(right, ast.Dict) else ())
        if isinstance(key, ast.Constant)
    }
    parts: list[ast.expr] = []
    at = 0
    for found in _PERCENT.finditer(template):
        parts.append(ast.Constant(template[at : found.start()]))
        at = found.end()
        percent, name, layout, kind = found.groups()
        if percent:
            parts.append(ast.Constant("%"))
            continue
        if (name is not None) != named or (not named and not values) or (named and name not in keys):
            return None
        value = keys[name] if named else values.pop(0)
        conversion = {"r": ord("r"), "a": ord("a")}.get(kind, PLAIN)
        spec = layout if kind in "sra" else layout + ("d" if kind in "iu" else kind)
        if kind in "sra" and spec and not spec.startswith(("-", ".")):
            spec = ">" + spec  # `%5s` sets to the right, `{:5}` to the left
        parts.append(_part(value, conversion, _spec(spec.replace("-", "<") if spec else "")))
    if "%" in template[at:] or (values and not named):
        return None
    return [*parts, ast.Constant(template[at:])]


def _format(template: str, call: ast.Call) -> list[ast.expr] | None:
    if any(isinstance(one, ast.Starred) for one in call.args) or any(key.arg is None for key in call.keywords):
        return None
    named = {str(key.arg): key.value for key in call.keywords}
    parts: list[ast.expr] = []
    count = 0
    try:
        fields = list(Formatter().parse(template))
    except ValueError:
        return None
    for text, name, spec, conversion in fields:
        parts.append(ast.Constant(text))
        if name is None:
            continue
        root, *path = re.split(r"\.", name)
        if not root:
            root, count = str(count), count + 1
        if "[" in name or (spec and "{" in spec):
            return None
        value = call.args[int(root)] if root.isdigit() and int(root) < len(call.args) else named.get(root)
        if value is None:
            return None
        for attribute in path:
            value = ast.Attribute(value, attribute, ast.Load())
        parts.append(_part(value, ord(conversion) if conversion else PLAIN, _spec(spec or "")))
    return parts


def unnumbered(template: str) -> str:
    """Tells `{0} {1}` as `{} {}`: fields that are numbered in their order."""
    numbers = _NUMBERED.findall(template.replace("{{", "").replace("}}", ""))
    if not numbers or numbers != [str(place) for place in range(len(numbers))] or template.count("{{"):
        return template
    return _NUMBERED.sub("{", template)


def _call(name: str, *arguments: ast.expr) -> ast.Call:
    return ast.Call(ast.Name(name, ast.Load()), list(arguments), [])
