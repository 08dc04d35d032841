"""What could teach the wrong thing: contradictions, one answer told by one source far too often, injected commands."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Final

from instar.engine.dataset.heard import folded
from instar.engine.dataset.lessons import Lesson

from .drafts import Draft
from .splits import Questions

CONTRADICTION_MIN = 0.9
"""How alike two inputs with different answers are before neither can be believed. Among 24,000 requests of three public
intent sets 5 pairs are; most are mislabelled indeed."""
FLOOD_SHARE = 0.2
FLOOD_ROWS_MIN = 32
FLOOD_TIMES = 3.0
"""A flood: of one answer by one source more than this share of the rows that are left then, and more than so many times
the average of the other answers. Measured against the others alone, so a larger flood gets no larger a cap: of 85 to
1,275 rows of one answer thrown among 425 requests of three public intent sets at most 107 stay, and of the requests
none goes; nor does any where one source tells the whole of such a set."""
CONTRADICTION, INJECTION, FLOOD, SUSPECT = "contradiction", "injection", "flood", "suspect"

_INJECTION: Final = re.compile(
    r"(?i)\b(?:ignore|disregard|forget|override)\s+(?:all\s+|any\s+)?(?:of\s+)?(?:the\s+|your\s+|my\s+)?"
    r"(?:previous|prior|above|earlier|preceding|system)\s+(?:instructions?|prompts?|rules|messages?|directions?)|"
    r"<\|(?:im_start|im_end|system|endoftext|eot_id|start_header_id)\|>|(?-i:\[/?INST\])|<</?SYS>>|"
    r"\b(?:reveal|print|repeat|leak)\s+(?:me\s+)?(?:your|the)\s+(?:system|hidden|initial)\s+(?:prompt|instructions?)|"
    r"[\U000e0001-\U000e007f]{4,}|[\u202a-\u202e\u2066-\u2069]"
)
"""Commands to a language model in place of a task, its control tokens, and text that is written not to be seen.

A list of wordings, no judgement: it finds none in 24,001 requests, 2,366 sentences, 86,249 lines of logs and 714
functions that are innocent, and misses half of 20 attacks that were worded freely."""


def without_injections(lessons: Sequence[Lesson], left_out: Counter[str]) -> list[Lesson]:
    """Drops lessons that carry commands to a language model."""
    kept = []
    for lesson in lessons:
        if _INJECTION.search(lesson.input) or _INJECTION.search(lesson.output):
            left_out[INJECTION] += lesson.failed
        else:
            kept.append(lesson)
    return kept


def without_contradictions(lessons: Sequence[Lesson], asked: Questions, left_out: Counter[str]) -> list[Lesson]:
    """Drops every lesson of an input that is said, as it is or nearly so, to have two different right answers.

    Nearly the same source code rightly has another correction; of code only equal inputs contradict.
    """
    answers: defaultdict[int, set[str]] = defaultdict(set)
    texts: set[int] = set()
    for lesson in lessons:
        place = asked.place[lesson.key]
        answers[place].add(folded(lesson.output))
        if lesson.source != "code_diff":
            texts.add(place)
    bad = {place for place, said in answers.items() if len(said) > 1}
    for pairs in asked.near.values():
        for one, other, alike in pairs:
            near = alike >= CONTRADICTION_MIN and one in texts and other in texts
            if near and answers[one] and answers[other] and answers[one] != answers[other]:
                bad |= {one, other}
    left_out[CONTRADICTION] += sum(lesson.failed for lesson in lessons if asked.place[lesson.key] in bad)
    return [lesson for lesson in lessons if asked.place[lesson.key] not in bad]


def without_floods(drafts: Sequence[Draft], left_out: Counter[str]) -> list[Draft]:
    """Caps how many rows of one split come from one source with one answer; the first ones stay."""
    rows = Counter(draft.split for draft in drafts)
    told = Counter(_teller(draft) for draft in drafts)
    answers: defaultdict[str, set[str]] = defaultdict(set)
    for draft in drafts:
        answers[draft.split].add(draft.answer)
    taken: Counter[tuple[str, str, str]] = Counter()
    kept = []
    for draft in drafts:
        of = _teller(draft)
        others = rows[draft.split] - told[of]
        mean = others / max(1, len(answers[draft.split]) - 1)
        most = max(FLOOD_ROWS_MIN, FLOOD_SHARE / (1 - FLOOD_SHARE) * others, FLOOD_TIMES * mean)
        if taken[of] < most or draft.first.source == "code_diff":
            taken[of] += 1
            kept.append(draft)
        else:
            left_out[FLOOD] += draft.failed
    return kept


def _teller(draft: Draft) -> tuple[str, str, str]:
    """Names who tells which answer in which split."""
    return draft.split, draft.first.told_by, draft.answer
