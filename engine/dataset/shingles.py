"""Texts as they are compared: sets of shingles, as numbers in one array.

A shingle is four characters in a row of a text's words, without case, signs and layout. The rarest has the lowest
number, so that the first few of a text are those by which others like it are found.
"""

from __future__ import annotations

import re
from array import array
from collections import defaultdict
from collections.abc import Iterable
from itertools import count
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SHINGLE_CHARS = 4
SHINGLES_MAX = 2_000
_WORD = re.compile(r"\w+")
_DIGIT = re.compile(r"\d")


class Shingled(NamedTuple):
    """The shingles of all texts."""

    all: NDArray[np.int32]
    """(shingles,) text after text; of one text each once, ascending."""
    starts: NDArray[np.int64]
    """(texts + 1,) where each text begins in it."""
    figures: NDArray[np.int64]
    """(texts,) equal where the same numbers are in the text. Others are no near-duplicates: a number is meant."""
    kinds: int
    """How many different shingles there are."""


def shingled(texts: Iterable[str]) -> Shingled:
    """Takes folded texts (``lessons.folded``) apart."""
    numbers: defaultdict[str, int] = defaultdict(count().__next__)
    figures: defaultdict[tuple[str, ...], int] = defaultdict(count().__next__)
    held, sizes, figured = array("i"), array("q", [0]), array("q")
    for text in texts:
        words = _WORD.findall(text)
        line = f" {' '.join(words)} "
        places = range(min(SHINGLES_MAX, max(1, len(line) - SHINGLE_CHARS + 1)))
        own = {numbers[line[place : place + SHINGLE_CHARS]] for place in places}
        held.extend(own)
        sizes.append(len(own))
        figured.append(figures[tuple(sorted(filter(_DIGIT.search, words)))])
    first = np.array(held, np.int32)
    starts = np.cumsum(np.array(sizes, np.int64))
    return Shingled(_by_rarity(first, starts, len(numbers)), starts, np.array(figured, np.int64), len(numbers))


def _by_rarity(shingles: NDArray[np.int32], starts: NDArray[np.int64], kinds: int) -> NDArray[np.int32]:
    """Numbers them anew, the rarest first, and sorts each text's; of equally rare ones the one that came first."""
    rank = np.empty(kinds, np.int32)
    rank[np.argsort(np.bincount(shingles, minlength=kinds), kind="stable")] = np.arange(kinds, dtype=np.int32)
    ranked = rank[shingles]
    for start, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        ranked[start:end].sort()
    return ranked
