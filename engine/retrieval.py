"""How well held-out questions find their answers, and whether a difference is more than chance.

Numpy alone: what decides on a promotion should be short enough to read.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from instar.fsm.events import Interval, Retrieval

TEMPERATURE = 0.05
"""Of the softmax over cosines that gives a confidence; fixed, so that confidences of two checkpoints compare."""
TIE = 1e-6
"""Cosines nearer than this are a tie: the order of a batch moves them by as much."""
RESAMPLES = 2000
_CELLS_MAX = 1 << 24


class Scores(Struct, frozen=True):
    """For each question the rank of its answer (1 is best, 0 where the corpus lacks it) and the confidence in it."""

    ranks: NDArray[np.int64]
    confidences: NDArray[np.float64]

    @property
    def reciprocal(self) -> NDArray[np.float64]:
        """Reciprocal ranks, (questions,); 0 where the corpus lacks the answer."""
        return np.where(self.ranks > 0, 1.0 / np.maximum(self.ranks, 1), 0.0)


def score(
    questions: NDArray[np.float32], answers: Sequence[str], corpus: Sequence[str], vectors: NDArray[np.float32]
) -> Scores:
    """Ranks each question's right answer among the corpus by cosine.

    A text that occurs twice counts once; ties count against the right answer. The confidence is the probability that
    a softmax over all cosines gives to the right answer.

    Args:
        questions: (questions, dim) unit rows.
        answers: the right answer's text for each question.
        corpus: the candidate answers.
        vectors: (corpus, dim) unit rows.
    """
    first: dict[str, int] = {}
    for row, text in enumerate(corpus):
        first.setdefault(text, row)
    column = {text: place for place, text in enumerate(first)}
    candidates = vectors[list(first.values())]  # (distinct texts, dim)
    right = np.array([column.get(answer, -1) for answer in answers], dtype=np.int64)
    ranks = np.zeros(len(right), dtype=np.int64)
    confidences = np.zeros(len(right), dtype=np.float64)
    block = max(1, _CELLS_MAX // max(1, len(column)))
    known = np.flatnonzero(right >= 0)
    for start in range(0, len(known), block):
        rows = known[start : start + block]
        cosines = (questions[rows] @ candidates.T).astype(np.float64)  # (block, distinct texts)
        own = cosines[np.arange(len(rows)), right[rows]]
        # The right answer itself is within TIE of itself, so the count is its rank already.
        ranks[rows] = (cosines >= own[:, None] - TIE).sum(axis=1)
        top = cosines.max(axis=1)
        total = np.exp((cosines - top[:, None]) / TEMPERATURE).sum(axis=1)
        confidences[rows] = np.exp((own - top) / TEMPERATURE) / total
    return Scores(ranks, confidences)


def summarize(scores: Scores) -> Retrieval:
    """Gives the means over all questions; zeros where there is none."""
    count = len(scores.ranks)
    if count == 0:
        return Retrieval(pairs=0, recall_at_1=0.0, mrr=0.0, confidence=0.0)
    return Retrieval(
        pairs=count,
        recall_at_1=round(float((scores.ranks == 1).mean()), 6),
        mrr=round(float(scores.reciprocal.mean()), 6),
        confidence=round(float(scores.confidences.mean()), 6),
    )


def paired_gain(before: NDArray[np.float64], after: NDArray[np.float64], seed: int) -> Interval:
    """Gives the mean of ``after − before`` over the same questions with its 95 % percentile bootstrap interval.

    Efron & Tibshirani 1993, chapter 13; ``RESAMPLES`` resamples, the same for the same seed. Without questions all
    is zero; with one, the interval is that one difference and says nothing about chance.
    """
    difference = np.asarray(after, dtype=np.float64) - np.asarray(before, dtype=np.float64)
    count = len(difference)
    if count == 0:
        return Interval(0.0, 0.0, 0.0)
    generator = np.random.default_rng(seed)
    means = np.empty(RESAMPLES)
    block = max(1, _CELLS_MAX // count)
    for start in range(0, RESAMPLES, block):
        size = min(block, RESAMPLES - start)
        means[start : start + size] = difference[generator.integers(0, count, (size, count))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(round(float(difference.mean()), 6), round(float(low), 6), round(float(high), 6))
