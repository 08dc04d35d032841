"""The shift of the embedding, on top of what the syntax says."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from instar.engine.differences.units import units

from .result import BOUNDARY, Drift, with_shift

Embed = Callable[[Sequence[str]], NDArray[np.float32]]
"""Gives vectors, float32 of shape (texts, dim), one a text."""
TEXT_CHARS = 8000


def shifted(found: Drift, before: str, after: str, embed: Embed) -> Drift:
    """Puts the shift of the embeddings of what changed on top of a score.

    Args:
        found: the score; definitions that did not change, and those without a counterpart, stay as they are.
        before: the last version.
        after: the new version.
        embed: the model.
    """
    if not found.changed:
        return found
    if found.how != "syntax":
        cosine = _cosines(embed, [(before, after)])[0]
        drift = found.drift + (1.0 - found.drift) * (with_shift(BOUNDARY, cosine) - BOUNDARY)
        return _told(found, round(drift, 6), [f"embedding: cosine {cosine:.3f}"])
    old, new = units(before), units(after)
    pairs = [
        (old[unit.was or unit.name].source, new[unit.name].source)
        if unit.what == "changed" and (unit.was or unit.name) in old and unit.name in new
        else None
        for unit in found.units
    ]
    asked = [pair for pair in pairs if pair is not None]
    if not asked:
        return found
    known = iter(_cosines(embed, asked))
    cosines = [None if pair is None else next(known) for pair in pairs]
    told = tuple(
        replace(unit, drift=with_shift(unit.drift, cosine)) for unit, cosine in zip(found.units, cosines, strict=True)
    )
    lowest = min(cosine for cosine in cosines if cosine is not None)
    drift = max(with_shift(found.drift, lowest), *(unit.drift for unit in told))
    return replace(_told(found, drift, [f"embedding: lowest cosine of a changed definition {lowest:.3f}"]), units=told)


def _cosines(embed: Embed, pairs: Sequence[tuple[str, str]]) -> list[float]:
    """Gives the cosine of either text of each pair."""
    vectors = embed([text[:TEXT_CHARS] or " " for pair in pairs for text in pair])
    left, right = vectors[0::2], vectors[1::2]
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return [float(value) for value in np.einsum("nd,nd->n", left, right) / np.where(lengths == 0, 1.0, lengths)]


def _told(found: Drift, drift: float, because: list[str]) -> Drift:
    return replace(found, drift=drift, similarity=round(1.0 - drift, 6), because=(*found.because, *because))
