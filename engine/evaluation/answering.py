"""Answering from examples: each request gets the answer that its neighbours among the examples vote for.

An answer's own text is one more example of it, as in ``Engine.answer``; the nearest example alone is none of these.

Accuracy, calibration and the share of unsure answers of a vote (see ``calibration``), and the accuracy of the nearest
example alone. Which rows are examples depends on the rows and the seed, never on the checkpoint, so that two
checkpoints are asked the same.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from instar.engine.memory.calibration import calibration_error, confidences
from instar.fsm.errors import InputRefused

from .rows import Labelled, texts_of

Embed = Callable[[Sequence[str]], NDArray[np.float32]]
"""Texts to unit rows, float32 of shape (texts, dim)."""

BLOCK = 2048
_Z = 1.959964  # of a 95 % interval


class Answering(Struct, frozen=True, kw_only=True):
    """What was measured; shares and accuracies lie in 0..1, intervals cover 95 %.

    Attributes:
        asked: requests that were answered.
        examples: rows in memory.
        answers: distinct answers among the examples.
        accuracy: share of right answers by vote, with its Wilson score interval.
        nearest: the same by the nearest example alone.
        threshold: an answer of less confidence is unsure.
        unsure: share of unsure answers.
        accuracy_sure: share of right ones among the others; None where all are unsure.
        calibration_error: expected calibration error over ten bins of equal width (Guo et al. 2017).
        temperature: of the vote.
    """

    asked: int
    examples: int
    answers: int
    accuracy: float
    interval: tuple[float, float]
    nearest: float
    threshold: float
    unsure: float
    accuracy_sure: float | None
    calibration_error: float
    temperature: float


def draw(rows: Sequence[Labelled], each: int, seed: int, *, ask: bool = True) -> tuple[list[Labelled], list[Labelled]]:
    """Parts rows into examples and requests: ``each`` examples of every answer, all that may be one with 0.

    Rows that say ``train`` may be examples and rows that say ``test`` are asked, if there are both; else every row may
    be either, and each answer keeps at least one row to be asked if ``ask`` holds.

    Raises:
        InputRefused: nothing is left to ask, or no example.
    """
    splits = {row.split for row in rows}
    parted = ask and {"train", "test"} <= splits
    pool = [row for row in rows if row.split == "train"] if parted else list(rows)
    by_answer: defaultdict[str, list[Labelled]] = defaultdict(list)
    for row in pool:
        by_answer[row.intent].append(row)
    shuffler = random.Random(seed)
    examples: list[Labelled] = []
    rest: list[Labelled] = []
    for answer in sorted(by_answer):
        same = by_answer[answer]
        shuffler.shuffle(same)
        limit = max(1, len(same) - 1) if ask and not parted else len(same)
        count = min(limit, each or limit)
        examples += same[:count]
        rest += same[count:]
    asked = [row for row in rows if row.split == "test"] if parted else rest
    if not examples or (ask and not asked):
        raise InputRefused(
            f"of {len(rows)} rows {len(examples)} can be examples and {len(asked)} be asked: "
            "give more rows of each intent"
        )
    return examples, asked


def answer(
    embed: Embed, examples: Sequence[Labelled], asked: Sequence[Labelled], temperature: float, threshold: float
) -> Answering:
    """Answers every request and measures the answers.

    Args:
        embed: the checkpoint.
        examples: what memory holds.
        asked: the requests.
        temperature: of the vote, as it is recorded with the checkpoint.
        threshold: of confidence.
    """
    number = {intent: place for place, intent in enumerate(sorted({row.intent for row in examples}))}
    gives = np.array([*(number[row.intent] for row in examples), *range(len(number))])
    right = np.array([number.get(row.intent, -1) for row in asked])
    memory = embed([*texts_of(examples), *number])  # (examples + answers, dim)
    correct = np.zeros(len(asked), bool)
    nearest = np.zeros(len(asked), bool)
    sure = np.zeros(len(asked))
    for start in range(0, len(asked), BLOCK):
        rows = slice(start, start + BLOCK)
        cosines = embed(texts_of(asked[rows])) @ memory.T  # (block, examples + answers)
        best, sure[rows] = confidences(cosines, np.broadcast_to(gives, cosines.shape), temperature)
        correct[rows] = best == right[rows]
        nearest[rows] = gives[cosines[:, : len(examples)].argmax(axis=1)] == right[rows]
    is_sure = sure >= threshold
    return Answering(
        asked=len(asked),
        examples=len(examples),
        answers=len(number),
        accuracy=_share(correct),
        interval=wilson(int(correct.sum()), len(correct)),
        nearest=_share(nearest),
        threshold=threshold,
        unsure=_share(~is_sure),
        accuracy_sure=_share(correct[is_sure]) if is_sure.any() else None,
        calibration_error=round(calibration_error(sure, correct, bins=10), 6),
        temperature=temperature,
    )


def wilson(right: int, count: int) -> tuple[float, float]:
    """Gives the 95 % interval of a share (Wilson 1927)."""
    share = right / count
    centre = share + _Z**2 / (2 * count)
    spread = _Z * float(np.sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2)))
    scale = 1 + _Z**2 / count
    return round((centre - spread) / scale, 6), round((centre + spread) / scale, 6)


def _share(held: NDArray[np.bool_]) -> float:
    return round(float(held.mean()), 6)
