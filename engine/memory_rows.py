"""Which rows of memory are live over some spans of the log, and which of them a space does not hold."""

from __future__ import annotations

from collections.abc import Sequence

from instar.fsm.events import MemoryReembedded, SignalEmbedded, Span
from instar.fsm.words import Digest, Seq
from instar.store.reader import LogReader

RowName = tuple[Seq, int]
"""A row of memory by the event that embedded it first, and its item there."""


def live_rows(reader: LogReader, memory: Sequence[Span], *, without: Digest | None = None) -> list[RowName]:
    """Lists the rows over some spans whose text was kept, in the order of their vectors.

    Args:
        reader: the log.
        memory: the spans.
        without: leave out what was embedded in this space the first time.
    """
    rows: list[RowName] = []
    for span in memory:
        for record in reader.read(span.first, span.last, [SignalEmbedded]):
            event = record.event
            if isinstance(event, SignalEmbedded) and event.texts is not None and event.space != without:
                placed = [(item.row, index) for index, item in enumerate(event.items) if item.row is not None]
                rows += [(record.seq, index) for _, index in sorted(placed)]
    return rows


def lacking(reader: LogReader, memory: Sequence[Span], space: Digest) -> list[RowName]:
    """Lists the live rows that have no vector in a space: these must be embedded before it can become active."""
    rows = live_rows(reader, memory, without=space)
    if not rows:
        return []
    held: set[RowName] = set()
    for record in reader.read(rows[0][0], types=[MemoryReembedded]):
        event = record.event
        if isinstance(event, MemoryReembedded) and event.space == space:
            held.update((seq, item) for seq, item in event.rows)
    return [row for row in rows if row not in held]
