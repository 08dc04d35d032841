"""Which answers are easily taken for each other: those whose texts lie near under the base.

Where such answers stand in one batch, a step has more to tell apart than among texts drawn by chance. The method is the
topic-aware sampling of Hofstätter et al. 2021, "Efficiently Teaching an Effective Dense Retriever …".
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Near = Mapping[str, Sequence[str]]
"""By answer the others that lie near, the nearest first."""
Block = tuple[str, list[str]]
"""An answer, and some texts of it that come into a batch together."""

NEAR_MAX = 32
NEIGHBOURS = 6
"""Answers near each other that are drawn at a time."""
_CHUNK = 1024


def nearest_answers(
    texts_of: Mapping[str, Sequence[str]], place: Mapping[str, int], vectors: NDArray[np.float32]
) -> dict[str, list[str]]:
    """Finds the answers that lie near each one.

    Args:
        texts_of: by answer its texts; those that have no place do not count.
        place: by text its row.
        vectors: (texts, dim), unit rows.
    """
    rows = {answer: [place[text] for text in texts if text in place] for answer, texts in texts_of.items()}
    answers = [answer for answer, found in rows.items() if found]
    if len(answers) < 2:
        return {}
    means = np.stack([vectors[rows[answer]].mean(axis=0) for answer in answers])
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-9)
    near: dict[str, list[str]] = {}
    for start in range(0, len(answers), _CHUNK):
        cosines = means[start : start + _CHUNK] @ means.T
        for row, of_one in enumerate(cosines, start):
            order = np.argsort(-of_one, kind="stable")[: NEAR_MAX + 1]
            near[answers[row]] = [answers[other] for other in order if other != row][:NEAR_MAX]
    return near


def batches_by_topic(
    blocks: Sequence[Block], count: int, near: Near, share: float, chance: random.Random
) -> list[list[str]]:
    """Fills ``count`` batches of nearly equal size: a share of each with answers near each other, the rest by chance.

    Args:
        blocks: each stands in one batch; in the order in which chance put them.
        count: of batches.
        near: which answers lie near.
        share: 0..1.
        chance: puts the batches in order.
    """
    waiting: dict[str, deque[int]] = {}
    for number, (answer, _) in enumerate(blocks):
        waiting.setdefault(answer, deque()).append(number)
    order = iter(range(len(blocks)))
    taken = [False] * len(blocks)

    def take(answer: str) -> int:
        number = waiting[answer].popleft()
        taken[number] = True
        return number

    def by_chance() -> int:
        return take(blocks[next(number for number in order if not taken[number])][0])

    batches = []
    for batch in range(count):
        size = (batch + 1) * len(blocks) // count - batch * len(blocks) // count
        drawn: list[int] = []
        while len(drawn) < round(share * size):
            drawn.append(by_chance())
            others = (answer for answer in near.get(blocks[drawn[-1]][0], ()) if waiting.get(answer))
            room = min(NEIGHBOURS - 1, round(share * size) - len(drawn))
            drawn += [take(answer) for answer, _ in zip(others, range(room), strict=False)]
        drawn += [by_chance() for _ in range(size - len(drawn))]
        batches.append([text for number in drawn for text in blocks[number][1]])
    chance.shuffle(batches)
    return batches
