"""Which rows of memory are live over some spans of the log, and which of them a space does not hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from instar.fsm.events import MemoryReembedded, SignalEmbedded, Span
from instar.fsm.words import Digest, Seq
from instar.store.ports import Blobs
from instar.store.reader import LogReader

RowName = tuple[Seq, int]
"""A row of memory by the event that embedded it first, and its item there."""


def live_rows(
    reader: LogReader, memory: Sequence[Span], *, without: Callable[[SignalEmbedded], bool] = lambda _: False
) -> list[RowName]:
    """Lists the rows over some spans whose text was kept, in the order of their vectors.

    Args:
        reader: the log.
        memory: the spans.
        without: says what is left out.
    """
    rows: list[RowName] = []
    for span in memory:
        for record in reader.read(span.first, span.last, [SignalEmbedded]):
            event = record.event
            if isinstance(event, SignalEmbedded) and event.texts is not None and not without(event):
                placed = [(item.row, index) for index, item in enumerate(event.items) if item.row is not None]
                rows += [(record.seq, index) for _, index in sorted(placed)]
    return rows


def lacking(reader: LogReader, blobs: Blobs, memory: Sequence[Span], space: Digest) -> list[RowName]:
    """Lists the live rows that have no vector in a space: these must be embedded before it can become active.

    A vector that a collection took is none.
    """

    def holds(event: SignalEmbedded | MemoryReembedded) -> bool:
        return event.space == space and (event.vectors is None or blobs.has(event.vectors))

    rows = live_rows(reader, memory, without=holds)
    if not rows:
        return []
    held: set[RowName] = set()
    for record in reader.read(rows[0][0], types=[MemoryReembedded]):
        event = record.event
        if isinstance(event, MemoryReembedded) and holds(event):
            held.update((seq, item) for seq, item in event.rows)
    return [row for row in rows if row not in held]
