"""Rows in the making: the lessons that become one row, merged with their duplicates and near-duplicates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from instar.engine.dataset.heard import folded
from instar.engine.dataset.lessons import Lesson
from instar.fsm.words import Seq

from .rows import SOURCES, Row, Split

if TYPE_CHECKING:
    from .splits import Placed, Questions


NEGATIVES_MAX = 8


class Draft(Struct):
    """The lessons of one row; the first one says how it is spelt."""

    group: str
    split: Split
    lessons: list[Lesson]

    @property
    def first(self) -> Lesson:
        """The lesson that was known first."""
        return self.lessons[0]

    @property
    def answer(self) -> str:
        """The answer as answers are compared."""
        return folded(self.first.output)

    @property
    def failed(self) -> bool:
        """Whether a failure stands behind it, so that losing the row loses a lesson."""
        return any(lesson.failed for lesson in self.lessons)

    @property
    def events(self) -> tuple[Seq, ...]:
        """The positions of all lessons."""
        return tuple(sorted({event for lesson in self.lessons for event in lesson.events}))

    def known_wrong(self, right: frozenset[str]) -> list[str]:
        """Lists what was answered wrongly, sorted, each once; of two spellings the first."""
        wrong = {folded(answer): answer for lesson in self.lessons[::-1] for answer in lesson.wrong}
        return sorted(answer for key, answer in wrong.items() if key not in right)

    def row(self, negatives: Sequence[str], confusable: Sequence[str]) -> Row:
        """Makes the row."""
        first = self.first
        return Row(
            input=first.input,
            output=first.output,
            type=min((lesson.source for lesson in self.lessons), key=SOURCES.index),
            events=self.events,
            group=self.group,
            split=self.split,
            negatives=tuple(negatives[:NEGATIVES_MAX]),
            confusable=tuple(confusable),
            verified_by=first.verified_by,
        )


def merged(found: Sequence[Placed], asked: Questions, left_out: Counter[str]) -> list[Draft]:
    """Makes one row of all lessons of a split with the same answer to the same input, or to a near-duplicate of it.

    What went well and failed at another time is in memory no more: it is learned.
    """
    rows: dict[tuple[Split, int, str], Draft] = {}
    for lesson, group, split in sorted(found, key=lambda one: one.split == "memory"):
        place = asked.place[lesson.key]
        answer = folded(lesson.output)
        places = (place, *(pair.first for pair in asked.near[place]))
        if split == "memory" and any(("train", other, answer) in rows for other in places):
            continue
        same = next((rows[split, other, answer] for other in places if (split, other, answer) in rows), None)
        if same is None:
            same = Draft(group, split, [])
        else:
            known = any(lesson.key == one.key for one in same.lessons)
            left_out["duplicate" if known else "near-duplicate"] += lesson.failed
        same.lessons.append(lesson)
        rows[split, place, answer] = same
    return list({id(draft): draft for draft in rows.values()}.values())
