"""What differs between the memory of two positions: which rows are live in the one and not in the other."""

from __future__ import annotations

from collections import Counter

from msgspec import Struct

from instar.fsm.events import MemoryReembedded, SignalEmbedded, Span
from instar.fsm.state import AgentState
from instar.fsm.words import Digest, Seq
from instar.store.reader import LogReader


class MemoryRows(Struct, frozen=True, kw_only=True):
    """Rows by kind, and the spans of the log in which they were embedded."""

    rows: int = 0
    kinds: dict[str, int] = {}
    spans: tuple[Span, ...] = ()


class Reembedding(Struct, frozen=True):
    """Live memory was embedded again in another space."""

    seq: Seq
    space: Digest
    rows: int


class MemoryDiff(Struct, frozen=True, kw_only=True):
    """``added`` rows are live only after, ``hidden`` ones only before; a rollback hides, and nothing is deleted.

    A space is the checkpoint in which memory is searched.
    """

    space_before: Digest | None
    space_after: Digest | None
    added: MemoryRows
    hidden: MemoryRows
    reembedded: tuple[Reembedding, ...] = ()


def compare_memory(reader: LogReader, before: AgentState, after: AgentState) -> MemoryDiff:
    """Compares the live rows of two states of one log."""
    low, high = sorted((before.head, after.head))
    moved = before.checkpoint != after.checkpoint
    again = reader.read(low + 1, high, [MemoryReembedded]) if moved else iter(())
    return MemoryDiff(
        space_before=before.checkpoint,
        space_after=after.checkpoint,
        added=_rows(reader, without(after.memory, before.memory)),
        hidden=_rows(reader, without(before.memory, after.memory)),
        reembedded=tuple(
            Reembedding(record.seq, record.event.space, len(record.event.rows))
            for record in again
            if isinstance(record.event, MemoryReembedded)
        ),
    )


def moved_rows(reader: LogReader, before: tuple[Span, ...], after: tuple[Span, ...]) -> tuple[MemoryRows, MemoryRows]:
    """Counts the rows that come to be live, and those that come to be hidden, between two sets of spans."""
    return _rows(reader, without(after, before)), _rows(reader, without(before, after))


def without(spans: tuple[Span, ...], taken: tuple[Span, ...]) -> tuple[Span, ...]:
    """Gives the parts of spans that no taken span covers.

    >>> without((Span(Seq(1), Seq(9)),), (Span(Seq(3), Seq(4)),))
    (Span(first=1, last=2), Span(first=5, last=9))
    """
    left = list(spans)
    for gone in taken:
        left = [
            part
            for span in left
            for part in (
                Span(span.first, min(span.last, Seq(gone.first - 1))),
                Span(max(span.first, Seq(gone.last + 1)), span.last),
            )
            if part.first <= part.last
        ]
    return tuple(left)


def _rows(reader: LogReader, spans: tuple[Span, ...]) -> MemoryRows:
    """Counts the rows with a vector; a span also covers positions at which nothing was embedded."""
    kinds: Counter[str] = Counter()
    for span in spans:
        for record in reader.read(span.first, span.last, [SignalEmbedded]):
            if isinstance(record.event, SignalEmbedded):
                kinds.update(item.kind for item in record.event.items if item.row is not None)
    return MemoryRows(rows=kinds.total(), kinds=dict(sorted(kinds.items())), spans=spans if kinds else ())
