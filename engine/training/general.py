"""Everyday sentences whose likeness is known by how they were made: what a model must not unlearn.

Each sentence says who does what to what, and where. Two sentences are alike by how much of that they share: a part said
in other words counts in full, one of the same kind by half, any other not at all. All of it is written here, so that it
goes wherever Instar goes; a set of one's own stands in ``[training] probes``.
"""

from __future__ import annotations

import random
from functools import cache

import numpy as np
from numpy.typing import NDArray

PAIRS = 400

_KINDS: dict[str, tuple[tuple[tuple[str, ...], ...], ...]] = {
    "who": (
        (("a man", "a guy"), ("a woman", "a lady"), ("a boy", "a young lad"), ("a girl", "a young lass")),
        (("a doctor", "a physician"), ("a teacher", "a schoolmaster"), ("a policeman", "an officer of the law")),
        (("a dog", "a hound"), ("a cat", "a feline"), ("a horse", "a pony"), ("a bird", "a small sparrow")),
    ),
    "does": (
        (("is eating", "is having a meal of"), ("is cooking", "is preparing in a pan"), ("is buying", "is paying for")),
        (("is repairing", "is fixing"), ("is building", "is putting together"), ("is breaking", "is smashing")),
        (("is looking at", "is watching"), ("is drawing", "is sketching"), ("is hiding", "is putting out of sight")),
    ),
    "what": (
        (("some bread", "a loaf"), ("an apple", "a piece of fruit"), ("a fish", "a trout"), ("soup", "a broth")),
        (("a car", "an automobile"), ("a bicycle", "a bike"), ("a boat", "a small ship"), ("an engine", "a motor")),
        (("a picture", "a painting"), ("a book", "a novel"), ("a letter", "a piece of mail"), ("a toy", "a plaything")),
    ),
    "where": (
        (("in the kitchen", "where meals are made"), ("in the garden", "out in the yard"), ("at home", "indoors")),
        (("in the street", "out on the road"), ("at the market", "among the stalls"), ("in the city", "downtown")),
        (("on the beach", "by the sea"), ("in the forest", "among the trees"), ("on the mountain", "up on the peak")),
    ),
}


@cache
def likenesses() -> tuple[tuple[str, str, float], ...]:
    """Gives ``PAIRS`` pairs of sentences with their likeness in 0..1: the same ones always."""
    chance = random.Random("everyday sentences")
    found = []
    for _ in range(PAIRS):
        one: list[str] = []
        other: list[str] = []
        likeness = 0.0
        for kinds in _KINDS.values():
            shared = chance.choice((0.0, 0.5, 1.0))
            kind = chance.choice(kinds)
            said = chance.choice(kind)
            first, second = chance.sample(said, 2)
            if shared == 0.5:
                second = chance.choice(chance.choice([same for same in kind if same != said]))
            elif shared == 0.0:
                second = chance.choice(chance.choice(chance.choice([others for others in kinds if others != kind])))
            one.append(first)
            other.append(second)
            likeness += shared / len(_KINDS)
        found.append((_sentence(one), _sentence(other), likeness))
    return tuple(found)


def _sentence(parts: list[str]) -> str:
    text = " ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def rank_correlation(found: NDArray[np.float64], known: NDArray[np.float64]) -> float:
    """Gives Spearman's correlation: Pearson's of the ranks, ties sharing theirs. 0 where either is constant."""
    a, b = _ranks(found), _ranks(known)
    a, b = a - a.mean(), b - b.mean()
    length = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / length if length else 0.0


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts - 1) / 2.0)[place], dtype=np.float64)
