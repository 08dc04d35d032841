"""The training set: what went wrong, with what would have been right, and the held-out pairs that judge a retrain.

Nothing is invented. A row needs a known good output: the reference, or the answer to the same input that passed. The
split is by whole groups, so that no topic is learned and tested at once. The held-out side holds all feedback of its
groups, passes as well: failures alone would flatter any change, since they regress to the mean.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from instar.fsm.events import (
    ChangeObserved,
    FeedbackReceived,
    MutationAccepted,
    MutationApplied,
    RollbackFinished,
    SignalEmbedded,
)
from instar.fsm.policy import Policy
from instar.fsm.record import Recorded
from instar.fsm.words import Seq, held_out
from instar.store.ports import Blobs

from .corrections import corrections
from .lessons import Lesson, Source, folded, lessons_of_feedback, lessons_of_logs
from .log_failures import LogFailure

NEGATIVES_MAX = 8
_TEACHING: Final = (
    *(FeedbackReceived, SignalEmbedded, ChangeObserved),
    *(MutationAccepted, MutationApplied, RollbackFinished),
)
_ORDER: Final[tuple[Source, ...]] = ("task", "failed_embedding", "code_diff", "log")


class Row(Struct, frozen=True, kw_only=True):
    """One pair. ``events`` are the positions it rests on (none for a log file), ``negatives`` known wrong outputs."""

    input: str
    output: str
    type: Source
    events: tuple[Seq, ...]
    group: str
    split: Literal["train", "heldout"]
    negatives: tuple[str, ...] = ()


class Dataset(Struct, frozen=True, kw_only=True):
    """Rows to learn from and pairs to judge by. ``sources`` counts the train rows by type, ``left_out`` by reason."""

    train: list[Row]
    heldout: list[Row]
    sources: dict[str, int]
    left_out: dict[str, int]

    def to_jsonl(self) -> bytes:
        """Writes one row a line, train first: the same bytes for the same records."""
        return b"".join(msgspec.json.encode(row) + b"\n" for row in (*self.train, *self.heldout))

    @staticmethod
    def parse(content: bytes) -> Dataset:
        """Reads what ``to_jsonl`` wrote. What was left out is not in the file, so ``left_out`` is empty."""
        rows = [msgspec.json.decode(line, type=Row) for line in content.split(b"\n") if line]
        train = [row for row in rows if row.split == "train"]
        return Dataset(
            train=train,
            heldout=[row for row in rows if row.split == "heldout"],
            sources=_sources(train),
            left_out={},
        )


def corpus(dataset: Dataset) -> list[str]:
    """Lists the distinct known good outputs, sorted: the answers among which a retrieval has to find its own."""
    return sorted({row.output for row in (*dataset.train, *dataset.heldout)})


def generate(records: Iterable[Recorded], blobs: Blobs, log_failures: Sequence[LogFailure], policy: Policy) -> Dataset:
    """Builds the training set from the log's events and the failures of log files.

    Args:
        records: the log from its first event on, in order; read once.
        blobs: where the versions of changed files lie.
        log_failures: what the log files told; only those with a known good output of their own can teach.
        policy: thresholds for low reward and confidence, and the share held out.
    """
    left_out: Counter[str] = Counter()
    kept = [record for record in records if isinstance(record.event, _TEACHING)]
    lessons = [
        *lessons_of_feedback(kept, policy, left_out),
        *corrections(kept, blobs, left_out),
        *lessons_of_logs(log_failures, left_out),
    ]
    lessons = _without_contradictions(_spelt_alike(lessons), left_out)
    share = policy.retrain.heldout_share
    apart = {lesson.key for lesson in lessons if held_out(_group(lesson), share)}
    train: dict[str, list[Lesson]] = {}
    heldout: dict[str, list[Lesson]] = {}
    for lesson in lessons:
        if held_out(_group(lesson), share):
            _merge(heldout, lesson, left_out)
        elif not lesson.failed:
            continue  # A pass outside of the held-out groups teaches nothing and is no loss.
        elif lesson.key in apart:
            left_out["input in both splits"] += 1
        else:
            _merge(train, lesson, left_out)
    good: dict[str, set[str]] = {}
    for lesson in lessons:
        good.setdefault(lesson.key, set()).add(folded(lesson.output))
    train_rows = sorted((_row(same, "train", good) for same in train.values()), key=_position)
    return Dataset(
        train=train_rows,
        heldout=sorted((_row(same, "heldout", good) for same in heldout.values()), key=_position),
        sources=_sources(train_rows),
        left_out=dict(sorted((reason, count) for reason, count in left_out.items() if count)),
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


def _group(lesson: Lesson) -> str:
    return lesson.group or lesson.output


def _without_contradictions(lessons: list[Lesson], left_out: Counter[str]) -> list[Lesson]:
    """Drops every lesson of an input that is said to have two different right answers."""
    answers: dict[str, set[str]] = {}
    for lesson in lessons:
        answers.setdefault(lesson.key, set()).add(folded(lesson.output))
    left_out["contradiction"] += sum(len(answers[lesson.key]) > 1 and lesson.failed for lesson in lessons)
    return [lesson for lesson in lessons if len(answers[lesson.key]) == 1]


def _merge(rows: dict[str, list[Lesson]], lesson: Lesson, left_out: Counter[str]) -> None:
    same = rows.setdefault(lesson.key, [])
    left_out["duplicate"] += bool(same) and lesson.failed
    same.append(lesson)


def _row(same: list[Lesson], split: Literal["train", "heldout"], good: dict[str, set[str]]) -> Row:
    """Makes one row of the lessons with the same input; the first one says how it is spelt."""
    first = same[0]
    wrong = {
        folded(answer): answer
        for lesson in same[::-1]
        for answer in lesson.wrong
        if folded(answer) not in good[first.key]
    }
    return Row(
        input=first.input,
        output=first.output,
        type=min((lesson.source for lesson in same), key=_ORDER.index),
        events=tuple(sorted({event for lesson in same for event in lesson.events})),
        group=_group(first),
        split=split,
        negatives=tuple(sorted(wrong.values()))[:NEGATIVES_MAX],
    )


def _position(row: Row) -> tuple[float, str]:
    return (row.events[0] if row.events else float("inf"), row.input)


def _sources(train: list[Row]) -> dict[str, int]:
    return dict(sorted(Counter(str(row.type) for row in train).items()))
