"""Drift of text for people: how many of its words are others. Case, punctuation and line breaks do not count.

A word that turns a sentence into its opposite, and a number, weigh more than their share: an agent that reads
"always delete" where it read "never delete" does something else, however long the text around it is.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

from instar.engine.differences import sequence_diff

from .measure import graded
from .result import Drift

WORDS_MAX: Final = 400_000
SHOWN: Final = 4
TEXT_MAX: Final = 60
LEAST: Final = 0.32
"""What a text counts at least that denies more or less than it did, or holds other numbers."""
_DENIALS: Final = frozenset(
    """
    no not never none nothing nobody nowhere neither nor without cannot
    """.split()  # noqa: SIM905 (a list of words is read more easily so)
)
_NUMBER: Final = re.compile(r"\d+(?:[.,]\d+)*")
_WORD: Final = re.compile(r"\w+(?:['’.\-]\w+)*")


def compare(before: str, after: str) -> Drift:
    """Says how far a text drifted: by the share of its words, of both sides together, that changed."""
    left, right = _WORD.findall(before.casefold())[:WORDS_MAX], _WORD.findall(after.casefold())[:WORDS_MAX]
    found = sequence_diff.changes(left, right)
    if not found:
        because = "the same words" if before != after else "no difference"
        return Drift(drift=0.0, similarity=1.0, changed=False, how="text", because=(because,))
    count = sum(change.a_high - change.a_low + change.b_high - change.b_low for change in found)
    share = count / (len(left) + len(right))
    gone, new = _sense(left), _sense(right)
    drift = round(share if gone == new else max(share, graded(LEAST, share)), 6)
    told = [
        f"{_shown(left[change.a_low : change.a_high])} → {_shown(right[change.b_low : change.b_high])}"
        for change in found[:SHOWN]
    ]
    more = [f"and {len(found) - SHOWN} more places"] if len(found) > SHOWN else []
    size = f"{count} of {len(left) + len(right)} words"
    return Drift(drift=drift, similarity=round(1.0 - drift, 6), changed=True, how="text", because=(*told, *more, size))


def _sense(words: Sequence[str]) -> Counter[str]:
    """Counts how often a text denies, by whichever word, and the numbers that it holds."""
    return Counter(
        "not" if word in _DENIALS or word.endswith(("n't", "n’t")) else word
        for word in words
        if word in _DENIALS or word.endswith(("n't", "n’t")) or _NUMBER.fullmatch(word)
    )


def _shown(words: list[str]) -> str:
    text = " ".join(words)
    return (text if len(text) <= TEXT_MAX else f"{text[: TEXT_MAX - 1]}…") or "nothing"
