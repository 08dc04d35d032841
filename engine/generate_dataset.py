"""The training set: what went wrong, with what would have been right, and the pairs that judge a retrain.

Nothing is invented. A row needs an output that somebody other than the agent says is right. The split is by whole
groups, so that no topic is learned and tested at once; a near-duplicate never stands on two sides. Held out are all
questions of their groups, passes as well: failures alone would flatter any change, since they regress to the mean.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from instar.fsm.events import CheckpointTrained, DatasetGenerated
from instar.fsm.policy import Policy
from instar.fsm.record import Recorded
from instar.fsm.words import Digest
from instar.store.ports import Blobs

from .dataset.corrections import corrections
from .dataset.drafts import Draft, merged
from .dataset.heard import Again, folded
from .dataset.lessons import Lesson, lessons_of_feedback, lessons_of_logs
from .dataset.log_failures import LogFailure
from .dataset.near_duplicates import near_duplicates
from .dataset.past import Past
from .dataset.poison import SUSPECT, without_contradictions, without_floods, without_injections
from .dataset.rows import SPLITS, Dataset, Grouping, Row, corpus, dataset_of_rows
from .dataset.splits import grouping, placed, questions

if TYPE_CHECKING:
    from .dataset.mining import Embed

__all__ = ["Dataset", "Row", "corpus", "generate"]

MEMORY_ROWS_MAX = 2_000
"""Pairs that went well: the newest stay."""


def generate(
    past: Past,
    again: Again,
    blobs: Blobs,
    log_failures: Sequence[LogFailure],
    policy: Policy,
    embed: Embed | None = None,
) -> Dataset:
    """Builds the data set from the log's events and the failures of log files.

    Args:
        past: the log from its first event on.
        again: reads some of its events again, by position.
        blobs: where the versions of changed files lie.
        log_failures: what the log files told; only those with a known good output of their own can teach.
        policy: thresholds for low reward and confidence, and the shares held out.
        embed: gives vectors of inputs and answers; without it no label is suspected and no wrong answer mined.
    """
    left_out: Counter[str] = Counter()
    lessons = [
        *lessons_of_feedback(past.heard, again, left_out),
        *corrections(past.kept, past.compared, blobs, left_out),
        *lessons_of_logs(log_failures, left_out),
    ]
    lessons = sorted(without_injections(_spelt_alike(lessons), left_out), key=lambda lesson: lesson.known_at)
    asked = questions(lessons, near_duplicates(list(dict.fromkeys(lesson.key for lesson in lessons))))
    lessons = without_contradictions(lessons, asked, left_out)
    by = grouping(lessons, _chosen(past.kept))
    found = placed(lessons, asked, by, policy.retrain, left_out)
    drafts = without_floods(_remembered(merged(found, asked, left_out)), left_out)
    return dataset_of_rows(
        _rows(drafts, lessons, by, embed, left_out),
        left_out={reason: count for reason, count in sorted(left_out.items()) if count},
        grouping=dict(by),
    )


def _spelt_alike(lessons: list[Lesson]) -> list[Lesson]:
    """Gives equal answers one spelling, the first: an answer names a group, which no capital letter may cut in two."""
    spelling: dict[str, str] = {}
    return [
        lesson
        if lesson.source == "code_diff"
        else replace(lesson, output=spelling.setdefault(folded(lesson.output), lesson.output))
        for lesson in lessons
    ]


def _chosen(records: Iterable[Recorded]) -> dict[str, Grouping]:
    """Finds what the data set was grouped by from which a checkpoint was trained last."""
    made: dict[Digest, dict[str, Grouping]] = {}
    chosen: dict[str, Grouping] = {}
    for record in records:
        match record.event:
            case DatasetGenerated(dataset=dataset, grouping=by):
                made[dataset] = dict(by or {})
            case CheckpointTrained(dataset=dataset, brought=None):
                chosen |= made.get(dataset, {})
            case _:
                pass
    return chosen


def _remembered(drafts: list[Draft]) -> list[Draft]:
    memory = [draft for draft in drafts if draft.split == "memory"]
    surplus = {id(draft) for draft in memory[:-MEMORY_ROWS_MAX]}
    return [draft for draft in drafts if id(draft) not in surplus]


def _rows(
    drafts: Sequence[Draft],
    lessons: Sequence[Lesson],
    by: Mapping[str, Grouping],
    embed: Embed | None,
    left_out: Counter[str],
) -> list[Row]:
    """Makes the rows, those to learn from without suspects and with mined wrong answers."""
    right: dict[str, set[str]] = {}
    for lesson in lessons:
        right.setdefault(lesson.key, set()).add(folded(lesson.output))
    good = {key: frozenset(answers) for key, answers in right.items()}
    teaching: dict[int, Row] = {}
    if embed is not None:
        from .dataset.mining import Vectors, mined

        vectors = Vectors(drafts, embed)
        suspects = vectors.suspects()
        left_out[SUSPECT] += len(suspects)
        drafts = [draft for draft in drafts if id(draft) not in suspects]
        vectors.drop(suspects)
        teaching = mined(vectors, good, [kind for kind, grouped in by.items() if grouped == "input"])
    rows = [teaching.get(id(draft)) or draft.row(draft.known_wrong(good[draft.first.key]), ()) for draft in drafts]
    return sorted(rows, key=_position)


def _position(row: Row) -> tuple[int, float, str]:
    return (SPLITS.index(row.split), row.events[0] if row.events else float("inf"), row.input)
