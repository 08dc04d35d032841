"""What a comparison of two versions gives, and the places of its scale.

The scale is 0..1, and its one boundary is 0.30, where similarity, 1 − drift, falls under the threshold of 0.70. Below
lie edits that keep the meaning, or that only its readers see; above it the edits that change what is done, by how grave
the gravest part is and how much of the definition it takes. ``make bench`` measures where real edits of either kind
fall.
"""

from __future__ import annotations

from typing import Final, Literal

from msgspec import Struct

from instar.fsm.drift import BOUNDARY, with_shift

__all__ = ["BOUNDARY", "KEPT", "WEAK", "Drift", "How", "UnitDrift", "What", "with_shift"]

How = Literal["syntax", "tokens", "text", "binary"]
What = Literal[
    "layout",
    "rewritten",
    "renamed",
    "moved",
    "parameters",
    "imports",
    "messages",
    "annotations",
    "changed",
    "added",
    "removed",
]

KEPT: Final = frozenset({"layout", "moved", "renamed", "rewritten"})
"""What is no change of meaning."""
WEAK: Final[dict[str, float]] = {
    "layout": 0.0,
    "moved": 0.02,
    "renamed": 0.05,
    "rewritten": 0.05,
    "parameters": 0.10,
    "imports": 0.10,
    "messages": 0.20,
    "annotations": 0.25,
}
"""What keeps the meaning for the code itself, by who might still see it: nobody, callers by keyword, readers."""


class UnitDrift(Struct, frozen=True, kw_only=True):
    """How far one definition drifted.

    ``share`` is the changed part of its syntax, weighted, in 0..1; ``was`` is the name that it had, if another.
    """

    name: str
    what: What
    drift: float
    share: float
    because: tuple[str, ...]
    was: str | None = None


class Drift(Struct, frozen=True, kw_only=True):
    """How far a text drifted from its last version, and why.

    ``how`` says what was compared: syntax trees, tokens where one version does not parse, words of other text.
    """

    drift: float
    similarity: float
    changed: bool
    how: How
    because: tuple[str, ...]
    units: tuple[UnitDrift, ...] = ()
