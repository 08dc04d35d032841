"""A recorded data set as a reader meets it: which one, what is in it, and what its rows rest on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from msgspec import Struct

from instar.engine.references import resolve
from instar.fsm.errors import BlobMissing, ConfigError
from instar.fsm.events import DatasetGenerated, PayloadErased
from instar.fsm.record import Recorded
from instar.fsm.words import Digest, Seq
from instar.store.blobs import BlobStore
from instar.store.clock import iso
from instar.store.reader import LogReader

from .rows import SPLITS, Dataset, Row, Split

MERGED = ("duplicate", "near-duplicate")
"""What ``left_out`` counts of lessons that are in a row all the same, with an equal one."""


class SplitCount(Struct, frozen=True, kw_only=True):
    """What one split holds. ``negatives`` and ``confusable`` count texts, ``events`` distinct positions."""

    rows: int
    groups: int
    answers: int
    events: int
    sources: dict[str, int]
    verified_by: dict[str, int]
    negatives: int
    confusable: int


class Statistics(Struct, frozen=True, kw_only=True):
    """What a data set holds and what was kept out of it; ``merged`` are duplicates that went into one row."""

    event: Seq
    time: str
    dataset: Digest
    space: Digest | None
    grouping: dict[str, str]
    splits: dict[str, SplitCount]
    merged: dict[str, int]
    left_out: dict[str, int]


class NumberedRow(Struct, frozen=True, kw_only=True):
    """A row and its number in the file, from 1; ``reference`` names it for ``why``."""

    number: int
    reference: str
    row: Row


def find(reader: LogReader, reference: str) -> Recorded | None:
    """Gives the data set that a reference means; None where there is none yet.

    Args:
        reader: the log.
        reference: ``latest``; ``dataset:PREFIX``; or any reference to a position: the last data set up to there.

    Raises:
        ConfigError: it names nothing, or more than one data set.
    """
    if reference.startswith("dataset:"):
        prefix = reference.removeprefix("dataset:").partition("#")[0]
        found = {
            record.event.dataset: record
            for record in reader.read(types=[DatasetGenerated])
            if isinstance(record.event, DatasetGenerated) and record.event.dataset.startswith(prefix)
        }
        if len(found) != 1 or not prefix:
            raise ConfigError(
                f"{len(found)} data sets begin with {prefix!r}: give more of its name, as `instar log` prints it"
            )
        return next(iter(found.values()))
    last = None if reference == "latest" else resolve(reader, reference)
    if last is None:
        return next(iter(reader.tail(1, [DatasetGenerated])), None)
    found_last: Recorded | None = None
    for record in reader.read(1, last, [DatasetGenerated]):
        found_last = record
    return found_last


def read(reader: LogReader, record: Recorded) -> Dataset:
    """Reads the rows of a data set.

    Raises:
        ConfigError: they were erased.
        BlobMissing, BlobCorrupt: they are gone or damaged.
    """
    event = _event(record)
    try:
        return Dataset.parse(BlobStore(reader.path.with_name("blobs"), reader).get(event.dataset))
    except BlobMissing:
        for erasure in reader.read(types=[PayloadErased]):
            if isinstance(erasure.event, PayloadErased) and event.dataset in erasure.event.blobs:
                raise ConfigError(
                    f"the rows of data set {event.dataset[:12]} were erased by event {erasure.seq}; "
                    f"`instar show {record.seq}` has their counts"
                ) from None
        raise


def statistics(record: Recorded, dataset: Dataset) -> Statistics:
    """Counts what a data set holds."""
    event = _event(record)
    return Statistics(
        event=record.seq,
        time=iso(record.recorded_at_us),
        dataset=event.dataset,
        space=event.space,
        grouping=dict(event.grouping or {}),
        splits={split: _counted([row for row in dataset.rows if row.split == split]) for split in SPLITS},
        merged={reason: event.left_out[reason] for reason in MERGED if reason in event.left_out},
        left_out={reason: count for reason, count in event.left_out.items() if reason not in MERGED},
    )


def numbered(record: Recorded, dataset: Dataset, split: Split | None = None) -> list[NumberedRow]:
    """Lists the rows, of one split or of all, with the numbers by which ``why`` knows them."""
    prefix = f"dataset:{_event(record).dataset[:12]}"
    return [
        NumberedRow(number=number, reference=f"{prefix}#{number}", row=row)
        for number, row in enumerate(dataset.rows, 1)
        if split is None or row.split == split
    ]


def _counted(rows: Sequence[Row]) -> SplitCount:
    return SplitCount(
        rows=len(rows),
        groups=len({row.group for row in rows}),
        answers=len({row.output for row in rows}),
        events=len({event for row in rows for event in row.events}),
        sources=dict(sorted(Counter(str(row.type) for row in rows).items())),
        verified_by=dict(sorted(Counter(str(row.verified_by or "unknown") for row in rows).items())),
        negatives=sum(len(row.negatives) for row in rows),
        confusable=sum(len(row.confusable) for row in rows),
    )


def _event(record: Recorded) -> DatasetGenerated:
    assert isinstance(record.event, DatasetGenerated)
    return record.event
