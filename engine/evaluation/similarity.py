"""Comparing texts: how well the order of the cosines follows the order that people gave."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from instar.fsm.errors import InputRefused

from .answering import Embed
from .rows import Compared

ROWS_MIN = 3


class Similarity(Struct, frozen=True, kw_only=True):
    """Spearman's rank correlation of cosines and scores, −1..1, over ``pairs`` pairs."""

    pairs: int
    spearman: float


def compare(embed: Embed, rows: Sequence[Compared]) -> Similarity:
    """Measures a checkpoint on scored pairs.

    Raises:
        InputRefused: there are too few pairs, or all have one score: no order can be told.
    """
    scores = np.array([row.score for row in rows], float)
    if len(rows) < ROWS_MIN or len(set(scores.tolist())) < 2:
        raise InputRefused(
            f"{len(rows)} pairs with {len(set(scores.tolist()))} different scores have no order to follow"
        )
    left, right = embed([row.a for row in rows]), embed([row.b for row in rows])
    cosines = np.einsum("nd,nd->n", left, right)
    return Similarity(pairs=len(rows), spearman=round(spearman(cosines.astype(float), scores), 6))


def spearman(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Gives Spearman's rank correlation; equal values share their mean rank. 0 where one of both is constant."""
    first, second = _ranks(one), _ranks(other)
    first, second = first - first.mean(), second - second.mean()
    length = float(np.sqrt((first @ first) * (second @ second)))
    return float(first @ second) / length if length else 0.0


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[place])
