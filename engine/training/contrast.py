"""What stands against what in a training batch: texts that belong together, and all that do not.

Multiple negatives ranking (Henderson et al. 2017) takes every other document of the batch as wrong. Among recorded
failures that is often untrue: the same answer is right for many inputs, and one input has several right answers. A
text therefore stands in a batch once, and what is known to belong together never counts against each other.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from msgspec import Struct

from instar.engine.ports import Pair

from .recipe import Recipe
from .topics import Block, Near, batches_by_topic

TOGETHER = 2
"""Texts of one answer that come into a batch together, so that each has another one to be drawn to."""


class Batch(NamedTuple):
    """``positives[i]`` is the document that is right for input ``i``; ``masked`` are pairs that count neither way."""

    inputs: list[str]
    documents: list[str]
    positives: list[int]
    masked: list[tuple[int, int]]

    @property
    def texts(self) -> list[str]:
        """All texts, inputs first."""
        return [*self.inputs, *self.documents]


class Group(NamedTuple):
    """Texts, each once, and by number of text which others belong to it."""

    texts: list[str]
    together: list[list[int]]


class Course(Struct, frozen=True):
    """What is learnt: new rows, old pairs that are rehearsed, and which texts are known to be right for what."""

    rows: Sequence[Pair]
    old: Sequence[Pair]
    right: Mapping[str, frozenset[str]]
    """By input its right answers."""
    examples: Mapping[str, tuple[str, ...]]
    """By answer the known inputs of it."""

    @classmethod
    def of(cls, rows: Sequence[Pair], old: Sequence[Pair] = ()) -> Course:
        """Looks up what is right for what."""
        right: dict[str, dict[str, None]] = {}
        examples: dict[str, dict[str, None]] = {}
        for pair in (*rows, *old):
            right.setdefault(pair.input, {})[pair.output] = None
            examples.setdefault(pair.output, {})[pair.input] = None
        return cls(
            rows,
            old,
            {text: frozenset(answers) for text, answers in right.items()},
            {answer: tuple(texts) for answer, texts in examples.items()},
        )

    def texts_of_answers(self) -> dict[str, list[str]]:
        """Lists by answer its own text and its known inputs."""
        return {answer: [answer, *texts] for answer, texts in self.examples.items()}

    def answers_of(self, text: str) -> frozenset[str]:
        """Gives the answers that a text stands for: those that are right for it, and itself if it is one."""
        answers = self.right.get(text, frozenset())
        return answers | {text} if text in self.examples else answers


Plan = list[list[Batch]] | list[list[Group]]
"""The batches of each epoch."""


def plan(course: Course, recipe: Recipe, seed: int, near: Near | None = None) -> Plan:
    """Lays out a whole training: the same batches for the same rows, recipe and seed, in every process.

    Args:
        course: what is learnt.
        recipe: how.
        seed: of all chances.
        near: which answers lie near each other; it changes what stands together, never which texts an epoch has.
    """
    # Text as a seed goes through sha512, which no process hashes otherwise.
    chances = [random.Random(f"{seed}:{epoch}") for epoch in range(recipe.epochs)]
    if recipe.loss == "nca":
        return [_groups(course, recipe, chance, near or {}) for chance in chances]
    return [_batches(course, recipe, chance, epoch) for epoch, chance in enumerate(chances)]


def _again(course: Course, recipe: Recipe, chance: random.Random) -> list[Pair]:
    """Chooses the old pairs of an epoch, none twice."""
    wanted = min(len(course.old), round(recipe.rehearsal * len(course.rows)))
    return chance.sample(list(course.old), wanted)


# ---- texts of one answer, drawn together ---------------------------------------------------------------------------


def _groups(course: Course, recipe: Recipe, chance: random.Random, near: Near) -> list[Group]:
    """Cuts the texts of each answer, its own among them, into blocks, and shuffles the blocks into batches."""
    texts: dict[str, dict[str, None]] = {}
    for pair in (*course.rows, *_again(course, recipe, chance)):
        texts.setdefault(pair.output, {pair.output: None})[pair.input] = None
    blocks: list[Block] = []
    for answer, of_answer in texts.items():
        order = list(of_answer)
        chance.shuffle(order)
        blocks += [(answer, order[start : start + TOGETHER]) for start in range(0, len(order), TOGETHER)]
        if len(order) > 1 and len(blocks[-1][1]) == 1:
            blocks[-1][1].append(chance.choice(order[:-1]))
    chance.shuffle(blocks)
    count = min(len(blocks), -(-sum(len(block) for _, block in blocks) // recipe.batch))  # a block is not cut
    share = recipe.topic_aware if near else 0.0
    return [_group(texts, course) for texts in batches_by_topic(blocks, count, near, share, chance)]


def _group(texts: Iterable[str], course: Course) -> Group:
    once = list(dict.fromkeys(texts))
    answers = [course.answers_of(text) for text in once]
    return Group(
        once,
        [
            [column for column, other in enumerate(answers) if column != row and not own.isdisjoint(other)]
            for row, own in enumerate(answers)
        ],
    )


# ---- pairs of an input and what is right for it --------------------------------------------------------------------


def _batches(course: Course, recipe: Recipe, chance: random.Random, epoch: int) -> list[Batch]:
    """Cuts the pairs into batches of nearly equal size (a rest of one row would teach nothing)."""
    pairs = [*course.rows, *_again(course, recipe, chance)]
    chance.shuffle(pairs)
    count = -(-len(pairs) // recipe.batch)
    parts = (pairs[number * len(pairs) // count : (number + 1) * len(pairs) // count] for number in range(count))
    return [_batch(part, course, recipe, chance, epoch) for part in parts]


def _batch(pairs: list[Pair], course: Course, recipe: Recipe, chance: random.Random, epoch: int) -> Batch:
    place: dict[str, int] = {}
    positives = [place.setdefault(_drawn_to(pair, course, recipe, chance, epoch), len(place)) for pair in pairs]
    for pair in pairs:
        for wrong in _taking_turns(pair.negatives, recipe.negatives, epoch):
            place.setdefault(wrong, len(place))
        for near in _taking_turns(pair.confusable, recipe.confusable, epoch):
            place.setdefault(near, len(place))
    answers = [course.answers_of(text) for text in place]
    return Batch(
        inputs=[pair.input for pair in pairs],
        documents=list(place),
        positives=positives,
        masked=[
            (row, column)
            for row, pair in enumerate(pairs)
            for text, column in place.items()
            if column != positives[row]
            and (text == pair.input or not course.answers_of(pair.input).isdisjoint(answers[column]))
        ],
    )


def _drawn_to(pair: Pair, course: Course, recipe: Recipe, chance: random.Random, epoch: int) -> str:
    if recipe.positives == "answer" or (recipe.positives == "mixed" and epoch % 2):
        return pair.output
    others = [text for text in course.examples.get(pair.output, ()) if text != pair.input]
    return chance.choice(others) if others else pair.output


def _taking_turns(texts: tuple[str, ...], count: int, epoch: int) -> list[str]:
    if len(texts) <= count:
        return list(texts)
    first = epoch * count
    return [texts[(first + number) % len(texts)] for number in range(count)]
