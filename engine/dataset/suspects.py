"""Labels that their neighbourhood does not believe: likely wrong, so not learned from.

Each text is asked what it would be called if its own label were not known: every other text votes for its label with
the weight ``exp(cosine / WIDTH)`` (a Parzen window over the vectors, each text left out in turn). A label that gets
next to none of the votes is confidently another, in the words of confident learning (Northcutt, Jiang & Chuang 2021);
then all are asked once more, without the votes of those that were found.

It is meant for the failures of a classifier. They contradict what the model believed by their very nature, so neither
the model's answer nor the one nearest example says anything; the other corrections, and all that is trusted, do.
Wrong labels that agree with each other, or that name an answer just beside the right one, are not found this way.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

WIDTH = 0.05
SHARE_MIN = 0.01
"""Of the votes. Banking77, five examples of each intent trusted, 490 failures, a fifth of them mislabelled at random:
92 % of the wrong labels are found, 92 % of what is found is wrong, 2 % of the right ones are lost (six seeds; with 30
of the intents .98 and .88). Where no label is wrong, 1.5 % are lost. Of labels that were exchanged for the model's
best wrong guess only 6 % are found."""
SUPPORT_MIN = 3
"""A label that fewer other texts have cannot be judged."""
_ROUNDS = 2
_CELLS_MAX = 1 << 22


def suspects(
    vectors: NDArray[np.float32], labels: Sequence[str], trusted: NDArray[np.bool_] | None = None
) -> NDArray[np.bool_]:
    """Says which labels are likely wrong.

    Args:
        vectors: (texts, dim) unit rows, of the texts alone: a vector that was made of the label too proves nothing.
        labels: what each text is said to be.
        trusted: (texts,) true where a label is known to be right: it votes and is never suspected.

    Returns:
        (texts,) true for a suspect.

    Raises:
        ValueError: there is not one label a vector.
    """
    if len(vectors) != len(labels):
        raise ValueError(f"{len(labels)} labels for {len(vectors)} vectors")
    found = np.zeros(len(labels), dtype=np.bool_)
    if len(labels) < 2:
        return found
    numbers, counts = np.unique(np.asarray(labels, dtype=object), return_inverse=True, return_counts=True)[1:]
    judged = counts[numbers] > SUPPORT_MIN
    if trusted is not None:
        judged &= ~trusted
    points = np.asarray(vectors, dtype=np.float64)
    for _ in range(_ROUNDS):
        found = judged & (_shares(points, numbers, ~found) < SHARE_MIN)
    return np.asarray(found, dtype=np.bool_)


def _shares(points: NDArray[np.float64], numbers: NDArray[np.intp], voting: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Gives the share of all other texts' votes that each text's own label gets, (texts,) in 0..1."""
    count = len(numbers)
    shares = np.empty(count)
    block = max(1, _CELLS_MAX // count)
    for start in range(0, count, block):
        rows = np.arange(start, min(start + block, count))
        cosines = points[rows] @ points.T  # (block, texts)
        cosines[rows - start, rows] = -np.inf
        votes = np.exp((cosines - cosines.max(axis=1, keepdims=True)) / WIDTH) * voting
        total = np.maximum(votes.sum(axis=1), np.finfo(np.float64).tiny)
        shares[rows] = (votes * (numbers[rows][:, None] == numbers)).sum(axis=1) / total
    return shares
