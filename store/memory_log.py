"""What the log says about one embedding space: the rows to add, event by event."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from instar.fsm.errors import BlobCollected, LogCorrupt
from instar.fsm.events import MemoryReembedded, SignalEmbedded
from instar.fsm.record import Recorded
from instar.fsm.words import Digest, Seq

from .memory_row import MemoryRow
from .ports import Blobs
from .vector_space import VectorSpace


class MemoryLog(Protocol):
    """What memory reads of the log."""

    def head(self) -> Seq:
        """The position of the last event."""

    def read(self, first: int = 1, last: int | None = None, types: Sequence[type] = ()) -> Iterator[Recorded]:
        """Yields events from ``first`` to ``last``, both included, of all types or of the given ones."""


def apply_log(held: VectorSpace, log: MemoryLog, blobs: Blobs, head: Seq) -> None:
    """Adds what the log says about one space after its position, up to the head.

    Raises:
        LogCorrupt: an event does not fit its vectors, or names rows that were never embedded.
    """
    for record in log.read(held.covers + 1, head, (SignalEmbedded, MemoryReembedded)):
        event = record.event
        if not isinstance(event, SignalEmbedded | MemoryReembedded) or event.space != held.space:
            continue
        if isinstance(event, SignalEmbedded):
            items = [index for index, item in enumerate(event.items) if item.row is not None]
            places = [row for item in event.items if (row := item.row) is not None]
            rows = [_row(record, event, index) for index in items]
        else:
            places, rows = list(range(len(event.rows))), _original_rows(log, event)
        if rows:
            try:
                content = b"" if event.vectors is None else blobs.get(event.vectors)
            except BlobCollected:
                continue  # of the time before this space was left; what is live was embedded again when it came back
            _add(held, record.seq, rows, places, content, event.dim)
    held.covers, held.anchor = head, anchor_of(log, head)


def anchor_of(log: MemoryLog, seq: Seq) -> Digest | None:
    """Gives the log's hash at a position, by which a copy of memory knows its log again."""
    return next((record.hash for record in log.read(seq, seq)), None)


def _add(held: VectorSpace, seq: Seq, rows: list[MemoryRow], places: list[int], content: bytes, dim: int) -> None:
    width = 4 * dim
    if width <= 0 or len(content) % width or not 0 <= min(places) <= max(places) < len(content) // width:
        raise LogCorrupt(
            f"event {seq} names {len(rows)} vectors of {dim} numbers, its blob holds {len(content)} bytes. "
            "Run `instar verify`; memory was left as it is."
        )
    vectors = np.frombuffer(content, dtype="<f4").reshape(-1, dim)  # (rows of the blob, dim)
    held.add(rows, vectors[places].astype(np.float32, copy=False))


def _row(record: Recorded, event: SignalEmbedded, index: int) -> MemoryRow:
    item = event.items[index]
    return MemoryRow(
        seq=record.seq,
        item=index,
        signal=item.seq,
        kind=item.kind,
        unit=item.unit,
        text=item.text,
        task_type=item.task_type,
        outcome=item.outcome,
        replaceable=item.replaceable,
        at_us=record.recorded_at_us,
    )


def _original_rows(log: MemoryLog, event: MemoryReembedded) -> list[MemoryRow]:
    """Finds what re-embedded vectors stand for: the items of the events that embedded them first."""
    if not event.rows:
        return []
    seqs = {seq for seq, _ in event.rows}
    first: dict[Seq, Recorded] = {
        record.seq: record for record in log.read(min(seqs), max(seqs), (SignalEmbedded,)) if record.seq in seqs
    }
    rows = []
    for seq, index in event.rows:
        embedded = first[seq].event if seq in first else None
        if not isinstance(embedded, SignalEmbedded) or not 0 <= index < len(embedded.items):
            raise LogCorrupt(
                f"a re-embedding into space {event.space[:12]} names item {index} of event {seq}, which embedded no "
                "such item. Run `instar verify`; memory was left as it is."
            )
        rows.append(_row(first[seq], embedded, index))
    return rows
