"""Batches by topic: every text of an epoch once, and answers that are taken for each other side by side."""

from __future__ import annotations

import random
from collections import Counter
from typing import cast

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from instar.engine.ports import Pair
from instar.engine.training.contrast import Course, Group, plan
from instar.engine.training.recipe import Recipe
from instar.engine.training.topics import NEAR_MAX, batches_by_topic, nearest_answers


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=60), st.integers(1, 8), st.floats(0.0, 1.0), st.integers(0, 2**32)
)
def test_every_block_comes_once_in_batches_of_nearly_equal_size(
    answers: list[int], count: int, share: float, seed: int
) -> None:
    blocks = [(f"answer {answer}", [f"text {number}"]) for number, answer in enumerate(answers)]
    near = {f"answer {one}": [f"answer {(one + step) % 10}" for step in range(1, 10)] for one in range(10)}
    count = min(count, len(blocks))
    batches = batches_by_topic(blocks, count, near, share, random.Random(seed))
    assert Counter(text for batch in batches for text in batch) == Counter(text for _, (text,) in blocks)
    assert max(map(len, batches)) - min(map(len, batches)) <= 1
    assert batches == batches_by_topic(blocks, count, near, share, random.Random(seed))


def test_nearest_answers_are_those_of_the_nearest_texts() -> None:
    angles = {"a": 0.0, "b": 0.3, "c": 1.5, "d": 1.6, "unseen": 9.9}
    texts = {answer: [f"{answer} one", f"{answer} two", "without a place"] for answer in angles}
    place = {
        f"{answer} {word}": number
        for number, (answer, word) in enumerate((a, w) for a in "abcd" for w in ("one", "two"))
    }
    turned = np.repeat([angles[answer] for answer in "abcd"], 2)
    vectors = np.stack([np.cos(turned), np.sin(turned)], axis=1).astype(np.float32)
    near = nearest_answers(texts, place, vectors)
    assert near == {"a": ["b", "c", "d"], "b": ["a", "c", "d"], "c": ["d", "b", "a"], "d": ["c", "b", "a"]}
    many = {str(number): [str(number)] for number in range(2 * NEAR_MAX)}
    spread = np.random.default_rng(1).normal(size=(2 * NEAR_MAX, 8)).astype(np.float32)
    assert {len(found) for found in nearest_answers(many, {name: int(name) for name in many}, spread).values()} == {
        NEAR_MAX
    }


def test_plan_by_topic_has_the_same_texts_with_like_answers_together() -> None:
    rows = [Pair(f"{answer} said in way {way}", answer) for answer in map(str, range(40)) for way in range(6)]
    course, recipe = Course.of(rows), replace(Recipe(), epochs=3, batch=32)
    near = {str(one): [str(one // 4 * 4 + step) for step in range(4) if one % 4 != step] for one in range(40)}
    by_chance = cast("list[list[Group]]", plan(course, recipe, 7))
    by_topic = cast("list[list[Group]]", plan(course, recipe, 7, near))
    assert plan(course, replace(recipe, topic_aware=0.0), 7, near) == by_chance
    together = []
    for one, other in zip(by_chance, by_topic, strict=True):
        assert {text for batch in one for text in batch.texts} == {text for batch in other for text in batch.texts}
        together.append((_alike(one), _alike(other)))
    assert all(topic > 1.5 * chance for chance, topic in together), together


def _alike(batches: list[Group]) -> int:
    """Pairs of answers of one topic in a batch."""
    count = 0
    for batch in batches:
        topics = Counter(int(answer) // 4 for answer in {text.split(" ")[0] for text in batch.texts})
        count += sum(number * (number - 1) // 2 for number in topics.values())
    return count
