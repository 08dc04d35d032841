"""Operators on statements: one goes, comes from elsewhere in the file, changes places, or is guarded.

Insertion from elsewhere in the same file is GenProg's (Weimer et al. 2009); the guards are among the templates of PAR
(Kim et al. 2013).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from .scopes import enclosing_class, local_names
from .source import SIMPLE, Edit, Function, Source

_DONORS_MAX = 12
_RAISED: Final = re.compile(r"^(?:\w+\.)*(\w+(?:Error|Exception|Exit|Iteration))\b", re.M)


def deletions(source: Source) -> Iterator[Edit]:
    """A statement less; a branch that is never taken; ``break`` for ``continue`` and the reverse."""
    for node in source.nodes():
        if not isinstance(node, SIMPLE) or _is_doc(node):
            continue
        if isinstance(node, ast.Break | ast.Continue):
            written, other = ("break", "continue") if isinstance(node, ast.Break) else ("continue", "break")
            yield Edit(*source.span(node), other.encode(), node.lineno, 0.8, f"{written} becomes {other}")
        lines = source.whole_lines(node)
        if lines is not None and len(source.block(node)) > 1:
            yield Edit(*lines, b"", node.lineno, 0.3, "a statement goes")
        else:
            yield Edit(*source.span(node), b"pass", node.lineno, 0.25, "a statement does nothing")


def insertions(source: Source) -> Iterator[Edit]:
    """Before or after a statement another one of the same function or class, or two in the other order."""
    for function in source.functions:
        donors = _donors(source, function)
        for statement in _inside(function):
            lines, indent = source.whole_lines(statement), source.indent(statement)
            if lines is None or indent is None:
                continue
            for place, donor in enumerate(donors):
                if donor is not statement:
                    text = _moved(source, donor, indent)
                    weight = 0.12 / (1 + place / 4)
                    told = f"line {donor.lineno} stands here too"
                    yield Edit(lines[0], lines[0], text, statement.lineno, weight, told)
                    if statement is source.block(statement)[-1] and source.content[: lines[1]].endswith((b"\n", b"\r")):
                        yield Edit(lines[1], lines[1], text, statement.end_lineno or 0, weight, told)
    for first, second in _neighbours(source):
        low, high = source.whole_lines(first), source.whole_lines(second)
        if low and high and source.content[: high[1]].endswith((b"\n", b"\r")):
            text = source.content[slice(*high)] + source.content[low[1] : high[0]] + source.content[slice(*low)]
            yield Edit(low[0], high[1], text, first.lineno, 0.2, "two statements change places")


def _neighbours(source: Source) -> Iterator[tuple[ast.stmt, ast.stmt]]:
    for node in source.nodes():
        for field in ("body", "orelse", "finalbody"):
            block = getattr(node, field, None)
            if isinstance(block, list) and source.function(block[0] if block else node) is not None:
                yield from ((one, two) for one, two in pairwise(block) if isinstance(one, SIMPLE) and not _is_doc(one))


def guards(source: Source, output: str) -> Iterator[Edit]:
    """Nothing is done where a value is None or empty, or where what the gate complained of is raised."""
    raised = [name for name in dict.fromkeys(reversed(_RAISED.findall(output))) if name != "AssertionError"][:2]
    for function in source.functions:
        names = local_names(source, function.body[0])
        for statement in _inside(function):
            lines, indent = source.whole_lines(statement), source.indent(statement)
            if lines is None or indent is None or not isinstance(statement, SIMPLE) or _is_doc(statement):
                continue
            used = [n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)]
            at, end = lines[0], source.newline
            for name in dict.fromkeys(name for name in used if name in names and name not in ("self", "cls")):
                for test, told in ((f"{name} is None", "None"), (f"not {name}", "empty")):
                    text = f"{indent}if {test}:{end}{indent}    return {_nothing(function)}{end}"
                    yield Edit(at, at, text.encode(), statement.lineno, 0.2, f"ends where {name} is {told}")
            body = _moved(source, statement, f"{indent}    ").decode()
            for error in raised:
                text = f"{indent}try:{end}{body}{indent}except {error}:{end}{indent}    "
                for instead in ("pass", f"return {_nothing(function)}"):
                    whole = f"{text}{instead}{end}".encode()
                    yield Edit(*lines, whole, statement.lineno, 0.15, f"{error} is caught: {instead}")


def _nothing(function: Function) -> str:
    """Gives an empty result of the kind that a function seems to return."""
    for node in ast.walk(function):
        match node:
            case ast.Return(value=ast.List() | ast.ListComp()):
                return "[]"
            case ast.Return(value=ast.Dict() | ast.DictComp()):
                return "{}"
            case ast.Return(value=ast.Constant(value=bool())):
                return "False"
            case ast.Return(value=ast.Constant(value=int() | float())):
                return "0"
            case ast.Return(value=ast.Constant(value=str()) | ast.JoinedStr()):
                return '""'
    return "None"


def _donors(source: Source, function: Function) -> list[ast.stmt]:
    """Gives simple statements to copy: of the function itself, then of its class, each text once."""
    around = enclosing_class(source, function)
    pools: list[ast.AST] = [function, *([around] if around else [])]
    found: dict[str, ast.stmt] = {}
    for pool in pools:
        for node in ast.walk(pool):
            if isinstance(node, SIMPLE) and not _is_doc(node) and source.function(node) is not None:
                found.setdefault(ast.dump(node), node)
    return list(found.values())[:_DONORS_MAX]


def _inside(function: Function) -> Iterator[ast.stmt]:
    """Yields the statements of a function, not those of functions inside it."""
    waiting: list[ast.AST] = list(reversed(function.body))
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.stmt):
            yield node
        if not isinstance(node, Function | ast.ClassDef | ast.expr):
            waiting += reversed(list(ast.iter_child_nodes(node)))


def _moved(source: Source, statement: ast.stmt, indent: str) -> bytes:
    """Writes a statement as a line or lines of its own, indented anew; continued lines stay as they are."""
    return f"{indent}{source.text(statement)}{source.newline}".encode()


def _is_doc(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
