"""The score of drift as it is decided from recorded numbers: what the syntax says, the embedding's shift on top."""

from __future__ import annotations

from typing import Final

BOUNDARY: Final = 0.30
"""Drift from which the meaning changed: similarity, 1 − drift, falls under the threshold of 0.70."""
SHIFT_WEIGHT: Final = 0.5
"""How much of what is left above a score an embedding that turned at a right angle takes."""


def with_shift(drift: float, cosine: float | None) -> float:
    """Puts the shift of the embedding on top of a score.

    Only where the syntax says that meaning changed: alone, the distance of embeddings runs against the truth, since
    cosmetic edits are the larger ones.

    Args:
        drift: the score of the syntax.
        cosine: of the embeddings of both versions, in −1..1; None without a model.
    """
    if cosine is None or drift < BOUNDARY:
        return drift
    shift = min(1.0, max(0.0, 1.0 - cosine))
    return round(drift + (1.0 - drift) * shift * SHIFT_WEIGHT, 6)
