"""General texts to hold a model to: everyday sentences, and as many first paragraphs of Python's own docstrings.

The sentences share no word that counts with those by which ``general.likenesses`` measures: what is held is a manner of
speaking, and whether it holds is seen on other words.
"""

from __future__ import annotations

import random
from functools import cache

from .docstrings import docstrings

EACH = 1000
"""Texts of either kind."""

_WHO = (
    *("My neighbour", "Her aunt", "The soldiers", "Two tourists", "An engineer", "The nurse", "Some farmers"),
    *("The band", "Several students", "The pilot", "A judge", "The sailors", "Our baker", "The crowd"),
    *("The home team", "That company"),
)
_DID = (
    *("visited", "lost", "sold", "borrowed", "carried", "cleaned", "found", "forgot"),
    *("described", "recorded", "opened", "delivered", "won", "planned", "refused", "talked about"),
)
_WHAT = (
    *("the tickets", "a wedding", "the bridge", "an old clock", "two chairs", "the election", "a heavy suitcase"),
    *("their tents", "a guitar", "fresh flowers", "the report", "a football match", "winter coats", "the lamp"),
    *("the medicine", "some gold coins"),
)
_WHEN = (
    *("yesterday morning", "after the storm", "during the holidays", "in the evening", "near the airport"),
    *("at the hospital", "before sunrise", "on Sunday", "beside the river", "in the library", "last winter"),
    *("without a word", "for the second time", "despite the rain", "inside the station", "at midnight"),
)


@cache
def sentences() -> tuple[str, ...]:
    """Gives ``EACH`` distinct sentences: statements and, one in four, questions; the same ones always."""
    chance = random.Random("other everyday sentences")
    found: dict[str, None] = {}
    while len(found) < EACH:
        who, did, what, when = (chance.choice(words) for words in (_WHO, _DID, _WHAT, _WHEN))
        asked = f"Is it true that {who[0].lower()}{who[1:]} {did} {what} {when}?"
        found[asked if chance.random() < 0.25 else f"{who} {did} {what} {when}."] = None
    return tuple(found)


def general_texts() -> list[str]:
    """Gives everyday sentences and paragraphs of docstrings in turns."""
    told = docstrings()
    paragraphs = random.Random("docstrings").sample(told, min(EACH, len(told)))
    turns = [text for pair in zip(sentences(), paragraphs, strict=False) for text in pair]
    return turns or list(sentences())
