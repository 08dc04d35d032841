"""Texts that are nearly the same: pairs whose sets of shingles have a high Jaccard index (Broder 1997).

The join is exact, by prefix filtering (Chaudhuri, Ganti & Kaushik 2006; Bayardo, Ma & Srikant 2007), and not by hashed
sketches such as MinHash: a sketch misses pairs by chance, and which ones depends on the library's release. Here a pair
is found or not whatever else the log holds, so a sealed split stays sealed as the log grows.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from math import ceil
from typing import NamedTuple

ALIKE_MIN = 0.8
"""Jaccard index from which two texts are near-duplicates: of four-character shingles, one word in a long request."""
SHINGLE_CHARS = 4
SHINGLES_MAX = 2_000
NEIGHBOURS_MAX = 64
"""A text with so many near-duplicates before it is not compared with later ones, lest a flood takes quadratic time."""
_WORD = re.compile(r"\w+")
_DIGIT = re.compile(r"\d")


class Pair(NamedTuple):
    """Two near-duplicates by their places, the earlier first, and their Jaccard index."""

    first: int
    second: int
    alike: float


class Shingled(NamedTuple):
    """A text as it is compared. Texts with other numbers in them are never near-duplicates: a number is meant."""

    shingles: frozenset[str]
    numbers: tuple[str, ...]


def shingled(text: str) -> Shingled:
    """Takes a text apart: words without case, signs and layout, and of these every four characters in a row."""
    words = _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
    line = f" {' '.join(words)} "
    shingles = (line[start : start + SHINGLE_CHARS] for start in range(max(1, len(line) - SHINGLE_CHARS + 1)))
    numbers = tuple(sorted(word for word in words if _DIGIT.search(word)))
    return Shingled(frozenset(islice(shingles, SHINGLES_MAX)), numbers)


def near_duplicates(texts: Sequence[str], alike_min: float = ALIKE_MIN) -> list[Pair]:
    """Finds all near-duplicates, by the place of the later text, then of the earlier one.

    Args:
        texts: in the order of the log.
        alike_min: the least Jaccard index, in 0..1.
    """
    taken = [shingled(text) for text in texts]
    rarity = Counter(shingle for one in taken for shingle in one.shingles)
    index: defaultdict[tuple[str, tuple[str, ...]], list[tuple[int, int]]] = defaultdict(list)
    found: list[Pair] = []
    for place, one in enumerate(taken):
        prefix = _prefix(one, rarity, alike_min)
        near = list(_alike(place, one, taken, _candidates(one, prefix, taken, index, alike_min), alike_min))
        found += near
        if len(near) < NEIGHBOURS_MAX:
            for at, shingle in enumerate(prefix):
                index[shingle, one.numbers].append((place, at))
    return found


def _candidates(
    one: Shingled,
    prefix: Sequence[str],
    taken: Sequence[Shingled],
    index: Mapping[tuple[str, tuple[str, ...]], Sequence[tuple[int, int]]],
    alike_min: float,
) -> set[int]:
    """Finds earlier texts that may be alike.

    What stands in front of the rarest common shingle is not in common (the positional filter of Xiao et al. 2008):
    where too few stand behind it, there is nothing to compare.
    """
    size = len(one.shingles)
    met: dict[int, bool] = {}
    for at, shingle in enumerate(prefix):
        for other, at_other in index.get((shingle, one.numbers), ()):
            if other not in met:
                theirs = len(taken[other].shingles)
                common_max = min(size - at, theirs - at_other)
                met[other] = common_max >= alike_min * (size + theirs - common_max)
    return {other for other, may in met.items() if may}


def _prefix(one: Shingled, rarity: Counter[str], alike_min: float) -> list[str]:
    """Gives the rarest shingles, so many that two near-duplicates must have one of them in common."""
    ordered = sorted(one.shingles, key=lambda shingle: (rarity[shingle], shingle))
    return ordered[: len(ordered) - ceil(alike_min * len(ordered)) + 1]


def _alike(
    place: int, one: Shingled, taken: Sequence[Shingled], candidates: set[int], alike_min: float
) -> Iterator[Pair]:
    size = len(one.shingles)
    for other in sorted(candidates):
        theirs = taken[other].shingles
        if min(size, len(theirs)) < alike_min * max(size, len(theirs)):
            continue
        common = len(one.shingles & theirs)
        alike = common / (size + len(theirs) - common)
        if alike >= alike_min:
            yield Pair(other, place, alike)
