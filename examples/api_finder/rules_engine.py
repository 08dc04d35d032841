"""Rules: what the wording of a request says about the kind of object that answers it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SKIP_BELOW = 0.08
"""Confidence under which the agent gives no answer."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A wording, the kinds of object that it speaks for, and by how much (in cosine units)."""

    wording: re.Pattern[str]
    kinds: frozenset[str]
    boost: float


def _rule(wording: str, kinds: str, boost: float) -> Rule:
    return Rule(re.compile(wording, re.IGNORECASE), frozenset(kinds.split(",")), boost)


RULES: tuple[Rule, ...] = (
    _rule(r"\bcontext manager\b", "context manager", 0.10),
    _rule(r"\b(exception|raised|warning|error (?:when|if|for|in))\b", "exception", 0.10),
    _rule(
        r"^(returns?|computes?|converts?|finds?|checks?|gets?|generates?|creates?|makes?|loads?"
        r"|reads?|writes?|parses?|evaluates?|tests?|determines?|yields?|calculates?)\b",
        "function,coroutine,context manager",
        0.05,
    ),
    _rule(r"^(an?|the|base|abstract|represents?|class|mixin)\b", "class,exception", 0.05),
)


def active(request: str) -> list[Rule]:
    """Returns the rules whose wording the request holds."""
    return [rule for rule in RULES if rule.wording.search(request)]


def boosts(rules: Sequence[Rule], kinds: Sequence[str]) -> np.ndarray:
    """Adds up what the rules give to each candidate.

    Args:
        rules: The active rules.
        kinds: The candidates' kinds.

    Returns:
        float32 (candidates,), in cosine units.
    """
    return np.array(
        [sum(rule.boost for rule in rules if kind in rule.kinds) for kind in kinds],
        dtype=np.float32,
    )


def admits(confidence: float) -> bool:
    """Says whether a ranked request is answered rather than skipped."""
    return confidence >= SKIP_BELOW
