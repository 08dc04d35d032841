"""Small edits between two versions of a file, and the patterns that are left of them.

Two syntax trees are walked together to the smallest nodes that differ. What the two of a pair have in common,
expression for expression, becomes a hole: `a.size < len(b)` that became `a.size <= len(b)` is the pattern `? < ?` to
`? <= ?`. That is anti-unification, as in Getafix (Bader et al. 2019), of two trees alone.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator, Sequence
from typing import Final

from msgspec import Struct

from instar.engine.differences import sequence_diff

from .scopes import BUILTINS
from .source import SIMPLE, Function

NODES_MAX: Final = 60
PAIRS_MAX: Final = 6
"""Edits in one change of a file above which it is no small one, and nothing is learnt of it."""
HOLE: Final = "__hole_"


class Pair(Struct, frozen=True):
    """Statements or one expression that became others."""

    before: tuple[ast.AST, ...]
    after: tuple[ast.AST, ...]


class Pattern(Struct, frozen=True):
    """An edit with holes, which are names that begin with ``HOLE``; an expression where ``statements`` is false."""

    before: tuple[ast.AST, ...]
    after: tuple[ast.AST, ...]
    statements: bool

    @property
    def key(self) -> str:
        """Tells whether two patterns are the same."""
        return f"{_dumped(self.before)} -> {_dumped(self.after)}"

    @property
    def told(self) -> str:
        """Shows the pattern to a reader."""
        sides = ("; ".join(ast.unparse(node) for node in side) for side in (self.before, self.after))
        return " -> ".join(" ".join(side.split()).replace(HOLE, "?")[:60] for side in sides)


def pairs(before: ast.AST, after: ast.AST) -> list[Pair]:
    """Finds the smallest nodes that differ between two trees; none where there are too many, or they are too large."""
    found: list[Pair] = []
    for pair in _pairs(before, after):
        sizes = [sum(1 for node in side for _ in ast.walk(node)) for side in (pair.before, pair.after)]
        if max(sizes) <= NODES_MAX:
            found.append(pair)
        if len(found) > PAIRS_MAX:
            return []
    return found


def _pairs(before: ast.AST, after: ast.AST) -> Iterator[Pair]:
    if ast.dump(before) == ast.dump(after):
        return
    inner = _inside(before, after)
    if inner is not None:
        yield from inner
    elif isinstance(before, ast.expr | ast.stmt) and isinstance(after, ast.expr | ast.stmt):
        yield Pair((before,), (after,))


def _inside(before: ast.AST, after: ast.AST) -> list[Pair] | None:
    """Finds what differs within two nodes; None where it is the nodes themselves."""
    if type(before) is not type(after):
        return None
    found: list[Pair] = []
    for field in before._fields:
        old, new = getattr(before, field, None), getattr(after, field, None)
        if isinstance(old, list) and isinstance(new, list) and _are(ast.stmt, [*old, *new]):
            found += _blocks(old, new)
        elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new) and _are(ast.expr, [*old, *new]):
            for left, right in zip(old, new, strict=True):
                found += _pairs(left, right)
        elif isinstance(old, ast.expr) and isinstance(new, ast.expr):
            found += _pairs(old, new)
        elif isinstance(old, ast.arguments) and isinstance(new, ast.arguments):
            inner = _inside(old, new)
            if inner is None:
                return None
            found += inner
        elif _differ(old, new):
            return None
    # A lone name or number says little without what is around it.
    if isinstance(before, (ast.expr, *SIMPLE)) and any(_is_leaf(pair) for pair in found):
        return None
    return found


def _blocks(old: Sequence[ast.stmt], new: Sequence[ast.stmt]) -> Iterator[Pair]:
    changed = sequence_diff.changes([ast.dump(node) for node in old], [ast.dump(node) for node in new])
    for change in changed:
        left, right = old[change.a_low : change.a_high], new[change.b_low : change.b_high]
        if len(left) == len(right):
            for one, other in zip(left, right, strict=True):
                yield from _pairs(one, other)
        elif left or change.a_high >= len(old):
            if left:
                yield Pair(tuple(left), tuple(right))
        else:
            # What was put in stands before the statement that follows it.
            yield Pair((old[change.a_high],), (*right, old[change.a_high]))


def _is_leaf(pair: Pair) -> bool:
    return len(pair.before) == 1 and isinstance(pair.before[0], ast.Name | ast.Constant)


def _are(kind: type, items: list[object]) -> bool:
    return bool(items) and all(isinstance(item, kind) for item in items)


def _differ(old: object, new: object) -> bool:
    if isinstance(old, list) and isinstance(new, list):
        return len(old) != len(new) or any(_differ(left, right) for left, right in zip(old, new, strict=True))
    if isinstance(old, ast.AST) and isinstance(new, ast.AST):
        return ast.dump(old) != ast.dump(new)
    return bool(old != new)


# ---- holes ---------------------------------------------------------------------------------------------------------


def abstracted(pair: Pair) -> Pattern:
    """Puts a hole wherever both sides hold the same expression; the same expression is the same hole.

    The largest such expressions are taken, or names and literals alone where the result needs a part of one.
    """
    common = {ast.dump(node) for node in _values(pair.before)} & {ast.dump(node) for node in _values(pair.after)}
    before, after = _with_holes(pair, common)
    if not _holes_in(after) <= _holes_in(before):
        small = [node for node in _values(pair.before) if isinstance(node, ast.Name | ast.Constant)]
        before, after = _with_holes(pair, common & {ast.dump(node) for node in small})
    return Pattern(before, after, statements=isinstance(pair.before[0], ast.stmt))


def _with_holes(pair: Pair, common: set[str]) -> tuple[tuple[ast.AST, ...], tuple[ast.AST, ...]]:
    holes = _Holes(common)
    before, after = (tuple(holes.visit(copy.deepcopy(node)) for node in side) for side in (pair.before, pair.after))
    return before, after


def _holes_in(side: Sequence[ast.AST]) -> set[str]:
    names = (node.id for top in side for node in ast.walk(top) if isinstance(node, ast.Name))
    return {name for name in names if name.startswith(HOLE)}


class _Holes(ast.NodeTransformer):
    def __init__(self, common: set[str]) -> None:
        self._common = common
        self._names: dict[str, str] = {}

    def visit(self, node: ast.AST) -> ast.AST:
        if _is_value(node) and (told := ast.dump(node)) in self._common:
            name = self._names.setdefault(told, f"{HOLE}{len(self._names)}__")
            return ast.copy_location(ast.Name(name, ast.Load()), node)
        return self.generic_visit(node)


def _values(side: Sequence[ast.AST]) -> Iterator[ast.AST]:
    return (node for top in side for node in ast.walk(top) if _is_value(node) and node is not top)


def _is_value(node: ast.AST) -> bool:
    """Says whether a node can be a hole: an expression that is read, and no name of Python's own."""
    if not isinstance(node, ast.expr) or isinstance(node, ast.Starred | ast.JoinedStr | ast.FormattedValue | ast.Slice):
        return False
    return isinstance(getattr(node, "ctx", None), ast.Load | None) and getattr(node, "id", "") not in BUILTINS


def _dumped(side: Sequence[ast.AST]) -> str:
    return "; ".join(ast.dump(node) for node in side)


# ---- matching ------------------------------------------------------------------------------------------------------


def matched(pattern: ast.AST, node: ast.AST, bound: dict[str, ast.AST]) -> bool:
    """Says whether a node fits a pattern; what the holes stand for is put into ``bound``."""
    if isinstance(pattern, ast.Name) and pattern.id.startswith(HOLE):
        if not isinstance(node, ast.expr) or isinstance(node, ast.Starred):
            return False
        known = bound.setdefault(pattern.id, node)
        return known is node or ast.dump(known) == ast.dump(node)
    if type(pattern) is not type(node):
        return False
    for field in pattern._fields:
        wanted, found = getattr(pattern, field, None), getattr(node, field, None)
        if isinstance(wanted, list) and isinstance(found, list):
            if len(wanted) != len(found) or not all(
                matched(left, right, bound) if isinstance(left, ast.AST) else left == right
                for left, right in zip(wanted, found, strict=True)
            ):
                return False
        elif isinstance(wanted, ast.AST) and isinstance(found, ast.AST):
            if not matched(wanted, found, bound):
                return False
        elif field not in ("type_comment", "kind") and wanted != found:
            return False
    return True


def functions_by_name(tree: ast.AST, prefix: str = "") -> dict[str, Function]:
    """Gives the functions of a module by qualified name; of several of one name the last."""
    found: dict[str, Function] = {}
    for node in ast.iter_child_nodes(tree):
        inside = prefix
        if isinstance(node, Function | ast.ClassDef):
            inside = f"{prefix}{node.name}."
            if isinstance(node, Function):
                found[f"{prefix}{node.name}"] = node
        found |= functions_by_name(node, inside) if isinstance(node, ast.stmt) else {}
    return found
