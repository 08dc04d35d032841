"""The join against a comparison of all with all, and what it costs."""

from __future__ import annotations

import re
import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from instar.engine.dataset import near_duplicates as module
from instar.engine.dataset.heard import folded
from instar.engine.dataset.near_duplicates import ALIKE_MIN, NEIGHBOURS_MAX, Pair, near_duplicates

WORDS = (
    "card",
    "cards",
    "carded",
    "top",
    "up",
    "top-up",
    "the",
    "is",
    "a",
    "7",
    "8",
    "x9",
    "日本語のテキスト",
    "ﬁn",
    "𝔘𝔫",
)
TEXTS = st.lists(st.lists(st.sampled_from(WORDS), max_size=9).map(" ".join).map(folded), max_size=40, unique=True)


def taken_apart(text: str) -> tuple[set[str], list[str]]:
    """Gives the shingles and the numbers of a text, in the plainest way."""
    words = re.findall(r"\w+", text)
    line = f" {' '.join(words)} "
    shingles = [line[at : at + 4] for at in range(len(line)) if at == 0 or at + 4 <= len(line)]
    return set(shingles[:2_000]), sorted(word for word in words if re.search(r"\d", word))


def compared(texts: Sequence[str], alike_min: float) -> list[Pair]:
    """Compares all with all."""
    taken = [taken_apart(text) for text in texts]
    full: set[int] = set()
    found: list[Pair] = []
    for place, (own, numbers) in enumerate(taken):
        near = []
        for other, (theirs, their_numbers) in enumerate(taken[:place]):
            alike = len(own & theirs) / len(own | theirs)
            if other not in full and numbers == their_numbers and alike >= alike_min:
                near.append(Pair(other, place, alike))
        if len(near) >= NEIGHBOURS_MAX:
            full.add(place)
        found += near
    return found


def requests(count: int, words: int, vocabulary: int) -> list[str]:
    generator = np.random.default_rng(5)
    letters = list("abcdefghijklmnopqrstuvwxyz")
    known = ["".join(generator.choice(letters, generator.integers(3, 9))) for _ in range(vocabulary)]
    return [" ".join(generator.choice(known, words)) for _ in range(count)]


def varied(texts: Sequence[str]) -> list[str]:
    """Adds to each text some in which a few words are another's."""
    generator = np.random.default_rng(6)
    found = list(texts)
    for text in texts:
        for changed in range(4):
            words, others = text.split(), texts[int(generator.integers(len(texts)))].split()
            for place in generator.integers(len(words), size=changed):
                words[place] = others[place]
            found.append(" ".join(words))
    return list(dict.fromkeys(found))


@given(TEXTS, st.sampled_from([0.3, 0.55, 0.7, ALIKE_MIN, 0.9, 1.0]))
def test_join_finds_exactly_the_pairs_that_a_comparison_of_all_finds(texts: list[str], alike_min: float) -> None:
    assert near_duplicates(texts, alike_min) == compared(texts, alike_min)


@given(TEXTS, st.integers(0, 40))
def test_pair_is_found_whatever_else_the_log_holds(texts: list[str], count: int) -> None:
    earlier = near_duplicates(texts[:count])
    assert [pair for pair in near_duplicates(texts) if pair.second < count] == earlier


@pytest.mark.parametrize("vocabulary", [30, 500])
def test_join_is_exact_over_many_long_texts(vocabulary: int) -> None:
    texts = varied(requests(100, 31, vocabulary))
    found = near_duplicates(texts)
    assert len(found) > 50
    assert found == compared(texts, ALIKE_MIN)


def test_join_is_exact_over_a_flood() -> None:
    endings = [f"{'x' * (n % 5)}{chr(97 + n % 26)}{chr(97 + n // 26)}" for n in range(300)]
    texts = [f"please open the very same door for me and all of my old friends {ending}" for ending in endings]
    found = near_duplicates(texts)
    assert found == compared(texts, ALIKE_MIN)
    assert len({pair.first for pair in found}) < len(texts) / 2  # most are not compared with later ones


def test_long_texts_are_compared_by_their_beginning() -> None:
    long = " ".join(requests(1, 700, 3_000))
    assert len(long) > 4_000
    assert near_duplicates([long, f"{long} {long[::-1]}"]) == [Pair(0, 1, 1.0)]


def test_few_texts_are_compared_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    compared_with = 0
    common = module._Join._common

    def counted(join: module._Join, place: int, others: NDArray[np.int32]) -> NDArray[np.int64]:
        nonlocal compared_with
        compared_with += len(others)
        return common(join, place, others)

    monkeypatch.setattr(module._Join, "_common", counted)
    texts = varied(requests(300, 31, 100))
    found = len(near_duplicates(texts))
    assert found <= compared_with <= 3 * found


def test_shingles_take_little_memory() -> None:
    texts = requests(1_000, 31, 200)
    tracemalloc.start()
    near_duplicates(texts)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000 * len(texts)  # some 190 shingles a text
