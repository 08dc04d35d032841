"""Statements of a module or class in another order: the same where none touches what another gives."""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Final

from instar.engine.differences.syntax import DEFINITIONS

_ACTS: Final = "the world"
"""What statements touch that are no assignment: their order among each other stays."""
_FIELDS: Final = "the fields"


def only_reordered(before: Sequence[ast.stmt], after: Sequence[ast.stmt], *, fields: bool = False) -> bool:
    """Says whether two bodies hold the same statements, in orders that come to the same.

    Args:
        before: statements in their canonical form.
        after: the same of the other version.
        fields: whether what is assigned may be fields that something reads in order: of a class under a decorator or
            with bases, such as a dataclass, a named tuple or an enumeration.
    """
    left, right = [
        [statement for statement in body if not isinstance(statement, DEFINITIONS)] for body in (before, after)
    ]
    texts = [[ast.dump(statement) for statement in body] for body in (left, right)]
    if Counter(texts[0]) != Counter(texts[1]):
        return False
    return _touched(left, texts[0], fields) == _touched(right, texts[1], fields)


def _touched(body: Sequence[ast.stmt], texts: Sequence[str], fields: bool) -> dict[str, list[str]]:
    """For each name that is bound here, for acting, and for fields, the statements that touch it, in order."""
    given = {
        one.id
        for statement in body
        for one in ast.walk(statement)
        if isinstance(one, ast.Name) and not isinstance(one.ctx, ast.Load)
    }
    found: dict[str, list[str]] = defaultdict(list)
    for statement, text in zip(body, texts, strict=True):
        names = {one.id for one in ast.walk(statement) if isinstance(one, ast.Name)}
        for name in names & given:
            found[name].append(text)
        if not isinstance(statement, (ast.Assign, ast.AnnAssign)):
            found[_ACTS].append(text)
            continue
        own = not all(name.startswith("__") for name in names & given)
        if fields and own:
            found[_FIELDS].append(text)
        if own and statement.value is not None and any(isinstance(one, ast.Call) for one in ast.walk(statement.value)):
            found[f"= {ast.dump(statement.value)}"].append(text)  # each call of `auto()` or `input()` gives another
    return dict(found)
