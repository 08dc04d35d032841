"""Statements of a module or class in another order: the same where none touches what another gives."""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Final

from instar.engine.differences.syntax import DEFINITIONS

_ACTS: Final = "the world"
"""What statements touch that are no assignment: their order among each other stays."""


def only_reordered(before: Sequence[ast.stmt], after: Sequence[ast.stmt]) -> bool:
    """Says whether two bodies hold the same statements, in orders that come to the same.

    Args:
        before: statements in their canonical form.
        after: the same of the other version.
    """
    left, right = [
        [statement for statement in body if not isinstance(statement, DEFINITIONS)] for body in (before, after)
    ]
    texts = [[ast.dump(statement) for statement in body] for body in (left, right)]
    if Counter(texts[0]) != Counter(texts[1]):
        return False
    return _touched(left, texts[0]) == _touched(right, texts[1])


def _touched(body: Sequence[ast.stmt], texts: Sequence[str]) -> dict[str, list[str]]:
    """For each name that is bound here, and for acting, the statements that touch it, in order."""
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
    return dict(found)
