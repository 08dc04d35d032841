"""What stands against what in a training batch: an input, its answer, and answers that are wrong for it.

Multiple negatives ranking (Henderson et al. 2017) takes every other answer of the batch as wrong. Among recorded
failures that is often untrue: the same answer is right for many inputs, and one input has several right answers. An
answer's text therefore stands in a batch once, and what is known to be right for an input never counts against it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from .ports import Pair
from .recipe import Recipe


class Batch(NamedTuple):
    """``positives[i]`` is the document that is right for input ``i``; ``masked`` are pairs that count neither way."""

    inputs: list[str]
    documents: list[str]
    positives: list[int]
    masked: list[tuple[int, int]]


def steps_of(rows: int, recipe: Recipe) -> int:
    """Counts the steps of a whole training."""
    return recipe.epochs * -(-rows // recipe.batch)


def batches(rows: Sequence[Pair], recipe: Recipe, seed: int) -> Iterator[Batch]:
    """Yields the batches of all epochs, of nearly equal size (a rest of one row would teach nothing)."""
    right: dict[str, set[str]] = {}
    for row in rows:
        right.setdefault(row.input, set()).add(row.output)
    shuffler = random.Random(seed)
    order = list(range(len(rows)))
    count = -(-len(rows) // recipe.batch)
    for epoch in range(recipe.epochs):
        shuffler.shuffle(order)
        for number in range(count):
            part = order[number * len(order) // count : (number + 1) * len(order) // count]
            yield _batch([rows[place] for place in part], right, recipe.negatives, epoch)


def _batch(rows: list[Pair], right: dict[str, set[str]], negatives: int, epoch: int) -> Batch:
    place: dict[str, int] = {}
    for row in rows:
        place.setdefault(row.output, len(place))
    for row in rows:
        for negative in _taking_turns(row.negatives, negatives, epoch):
            place.setdefault(negative, len(place))
    return Batch(
        inputs=[row.input for row in rows],
        documents=list(place),
        positives=[place[row.output] for row in rows],
        masked=[
            (number, place[text])
            for number, row in enumerate(rows)
            for text in sorted(right[row.input])
            if text != row.output and text in place
        ],
    )


def _taking_turns(negatives: tuple[str, ...], count: int, epoch: int) -> list[str]:
    if len(negatives) <= count:
        return list(negatives)
    first = epoch * count
    return [negatives[(first + number) % len(negatives)] for number in range(count)]
