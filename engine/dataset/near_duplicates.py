"""Texts that are nearly the same: pairs whose sets of shingles have a high Jaccard index (Broder 1997).

The join is exact, by prefix filtering (Chaudhuri, Ganti & Kaushik 2006; Bayardo, Ma & Srikant 2007), and not by hashed
sketches such as MinHash: a sketch misses pairs by chance, and which ones depends on the library's release. Here a pair
is found or not whatever else the log holds, so a sealed split stays sealed as the log grows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .shingles import Shingled, shingled

ALIKE_MIN = 0.8
"""Jaccard index from which two texts are near-duplicates: of four-character shingles, one word in a long request."""
NEIGHBOURS_MAX = 64
"""A text with so many near-duplicates before it is not compared with later ones, lest a flood takes quadratic time."""
_SLACK = 1e-6
"""By so much a bound may be missed: what a float rounds off keeps no pair from its comparison."""


class Pair(NamedTuple):
    """Two near-duplicates by their places, the earlier first, and their Jaccard index."""

    first: int
    second: int
    alike: float


def near_duplicates(texts: Sequence[str], alike_min: float = ALIKE_MIN) -> list[Pair]:
    """Finds all near-duplicates, by the place of the later text, then of the earlier one.

    Args:
        texts: folded, in the order of the log.
        alike_min: the least Jaccard index, in 0..1.
    """
    join = _Join(shingled(texts), alike_min)
    found: list[Pair] = []
    for place in range(len(texts)):
        near = join.near(place)
        found += near
        if len(near) < NEIGHBOURS_MAX:
            join.take(place)
    return found


class _Join:
    """Finds for one text after the other those before it that are like it.

    A text is entered under its prefix: its rarest shingles, so many that two near-duplicates have one in common.

    Args:
        texts: all of them.
        alike_min: the least Jaccard index.
    """

    def __init__(self, texts: Shingled, alike_min: float) -> None:
        self._texts, self._alike_min = texts, alike_min
        self._sizes = np.diff(texts.starts)
        least = np.ceil(alike_min * self._sizes - _SLACK).astype(np.int64)  # in common with any near-duplicate
        self._lengths = self._sizes - least + 1  # (texts,) of the prefixes
        self._begins = np.concatenate([[0], np.cumsum(self._lengths)])  # (texts + 1,) in all prefixes
        within = np.arange(self._begins[-1]) - np.repeat(self._begins[:-1], self._lengths)
        prefixes = texts.all[np.repeat(texts.starts[:-1], self._lengths) + within]
        figures = np.repeat(texts.figures, self._lengths)
        self._last = prefixes[self._begins[1:] - 1]  # (texts,) the commonest shingle of each prefix
        # An entry for each shingle among texts with the same numbers, with room for all that may stand in it.
        entries, counts = np.unique(figures * texts.kinds + prefixes, return_inverse=True, return_counts=True)[1:]
        self._entries = entries.astype(np.int64)  # (prefixes,)
        self._from = np.concatenate([[0], np.cumsum(counts)[:-1]])  # (entries,) where each begins in the places
        self._until = self._from.copy()  # (entries,) how far it is filled
        self._places = np.empty(len(prefixes), np.int32)
        self._marked = np.zeros(texts.kinds, np.bool_)

    def take(self, place: int) -> None:
        """Enters a text, for those after it."""
        entries = self._entries[self._begins[place] : self._begins[place + 1]]
        self._places[self._until[entries]] = place
        self._until[entries] += 1

    def near(self, place: int) -> list[Pair]:
        """Finds the entered texts that are like it, by their places."""
        entries = self._entries[self._begins[place] : self._begins[place + 1]]
        begins, ends = self._from[entries], self._until[entries]
        filled = np.flatnonzero(ends > begins)
        if not len(filled):
            return []
        lists = [
            self._places[begin:end] for begin, end in zip(begins[filled].tolist(), ends[filled].tolist(), strict=True)
        ]
        others = self._worth_comparing(place, *np.unique(np.concatenate(lists), return_counts=True))
        if not len(others):
            return []
        size, theirs = int(self._sizes[place]), self._sizes[others]
        common = self._common(place, others)
        alike = common / (size + theirs - common)
        return [
            Pair(other, place, index)
            for other, index in zip(others.tolist(), alike.tolist(), strict=True)
            if index >= self._alike_min
        ]

    def _worth_comparing(self, place: int, others: NDArray[np.int32], met: NDArray[np.int64]) -> NDArray[np.int32]:
        """Leaves out those that cannot have enough in common, by how many shingles of their prefixes are.

        Of the text whose prefix ends with the rarer shingle, what of the prefix the other one has stands in its prefix
        too: beyond what was met there, only what follows the prefix can be in common.
        """
        size, theirs = self._sizes[place], self._sizes[others]
        rest = np.where(
            self._last[others] < self._last[place],
            theirs - self._lengths[others],
            size - self._lengths[place],
        )
        common_max = np.minimum(met + rest, np.minimum(size, theirs))
        enough: NDArray[np.bool_] = common_max >= self._alike_min * (size + theirs - common_max) - _SLACK
        return others[enough]

    def _common(self, place: int, others: NDArray[np.int32]) -> NDArray[np.int64]:
        """Counts the shingles that each of the others has in common with a text."""
        texts, starts = self._texts.all, self._texts.starts
        own = texts[starts[place] : starts[place + 1]]
        theirs = [texts[starts[other] : starts[other + 1]] for other in others.tolist()]
        self._marked[own] = True
        common = np.add.reduceat(
            self._marked[np.concatenate(theirs)], np.cumsum([0, *map(len, theirs[:-1])]), dtype=np.int64
        )
        self._marked[own] = False
        return common
