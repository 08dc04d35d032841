"""Drift of text for people: how many of its words are others. Case, punctuation and line breaks do not count."""

from __future__ import annotations

import re
from typing import Final

from instar.engine.differences import sequence_diff

from .result import Drift

WORDS_MAX: Final = 400_000
SHOWN: Final = 4
TEXT_MAX: Final = 60
_WORD: Final = re.compile(r"\w+(?:['’.\-]\w+)*")


def compare(before: str, after: str) -> Drift:
    """Says how far a text drifted: by the share of its words, of both sides together, that changed."""
    left, right = _WORD.findall(before.casefold())[:WORDS_MAX], _WORD.findall(after.casefold())[:WORDS_MAX]
    found = sequence_diff.changes(left, right)
    if not found:
        because = "the same words" if before != after else "no difference"
        return Drift(drift=0.0, similarity=1.0, changed=False, how="text", because=(because,))
    count = sum(change.a_high - change.a_low + change.b_high - change.b_low for change in found)
    drift = round(count / (len(left) + len(right)), 6)
    told = [
        f"{_shown(left[change.a_low : change.a_high])} → {_shown(right[change.b_low : change.b_high])}"
        for change in found[:SHOWN]
    ]
    more = [f"and {len(found) - SHOWN} more places"] if len(found) > SHOWN else []
    size = f"{count} of {len(left) + len(right)} words"
    return Drift(drift=drift, similarity=round(1.0 - drift, 6), changed=True, how="text", because=(*told, *more, size))


def _shown(words: list[str]) -> str:
    text = " ".join(words)
    return (text if len(text) <= TEXT_MAX else f"{text[: TEXT_MAX - 1]}…") or "nothing"
