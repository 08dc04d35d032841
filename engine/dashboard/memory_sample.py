"""Live rows of memory, drawn from the log as it grows: what is held is the sample, however many rows there are.

Rows are drawn by their hashed positions: the same log gives the same sample, and a row in it leaves it only for one
that came later. So what was drawn up to a position is gone on with from there, unless something was erased since.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from instar.fsm.events import EmbeddedItem, MemoryReembedded, SignalEmbedded, Span
from instar.fsm.words import ORIGIN, Digest, Seq
from instar.store.reader import LogReader

_ITEM_BITS = 20
_SLACK = 4
"""So many times as many rows as are wanted are held before the surplus goes."""

Positions = NDArray[np.uint64]


class Row(Struct, frozen=True):
    """A live row, and where its vector is: a row of a blob."""

    embedded: int
    index: int
    item: EmbeddedItem
    blob: Digest
    place: int
    dim: int

    @property
    def position(self) -> int:
        """Event and item as one number."""
        return self.embedded << _ITEM_BITS | self.index


class _Again(Struct, frozen=True):
    """The rows of one re-embedding: their positions in order, and the place of each in its blob."""

    positions: Positions
    places: NDArray[np.int64]
    blob: Digest
    dim: int

    def find(self, position: int) -> int | None:
        """Gives the place of a row in the blob; None if it was not embedded again."""
        at = int(np.searchsorted(self.positions, np.uint64(position)))
        found = at < len(self.positions) and int(self.positions[at]) == position
        return int(self.places[at]) if found else None


class Sample:
    """The rows of memory that are live in a state and have a vector in one space, some of them.

    Attributes:
        space: whose vectors are meant; that of the last live event where none is named.
        live: how many rows are live.
        placed: how many of them have a vector in the space.

    Args:
        reader: the log.
        count_max: how many rows are drawn.
    """

    def __init__(self, reader: LogReader, count_max: int) -> None:
        self._reader = reader
        self._count_max = count_max
        self._clear(None)

    def _clear(self, space: Digest | None) -> None:
        self.space = space
        self.live = self.placed = 0
        self._spans: tuple[Span, ...] = ()
        self._upto = self._looked = ORIGIN
        """Where the spans end that were drawn from; the head at that time."""
        self._held: dict[int, Row] = {}
        """By mixed position."""
        self._erased = ORIGIN
        """The last erasure of the log when this was begun."""
        self._highest = 2**64
        """A row whose mixed position is no lower is not drawn any more."""
        self._again: list[_Again] | None = None

    def draw(self, space: Digest | None, spans: Sequence[Span], head: int) -> list[Row]:
        """Brings the sample to a state's memory; gives it in the order of the log."""
        spans = _up_to(spans, head)
        if space is None:
            space = self._last_space(spans)
        erased = self._reader.last_erasure()
        holds = space == self.space and erased == self._erased and self._spans == _up_to(spans, self._upto)
        if not holds or self._embedded_again(space, head):
            self._clear(space)
            self._erased = erased
        try:
            self._go_on(spans, head)
        except BaseException:
            self._clear(None)  # what was taken would be taken again
            raise
        return sorted(self._held.values(), key=lambda row: row.position)

    def _go_on(self, spans: Sequence[Span], head: int) -> None:
        for span in spans:
            first = max(span.first, self._upto + 1)
            if first > span.last:
                continue
            for record in self._reader.read(first, span.last, (SignalEmbedded,), chunk_max=64):
                if isinstance(record.event, SignalEmbedded):
                    self._take(record.seq, record.event, head)
        self._spans, self._looked = tuple(spans), Seq(head)
        self._upto = spans[-1].last if spans else ORIGIN
        self._drop_surplus()

    def _last_space(self, spans: Sequence[Span]) -> Digest | None:
        last = self._reader.tail(1, (SignalEmbedded,), before=spans[-1].last + 1) if spans else []
        return last[0].event.space if last and isinstance(last[0].event, SignalEmbedded) else None

    def _embedded_again(self, space: Digest | None, head: int) -> bool:
        """Says whether rows were embedded in the space since: then other ones have a vector there."""
        found = self._reader.read(self._looked + 1, head, (MemoryReembedded,)) if self._looked else ()
        return any(isinstance(one.event, MemoryReembedded) and one.event.space == space for one in found)

    def _take(self, seq: int, event: SignalEmbedded, head: int) -> None:
        indexes = [index for index, item in enumerate(event.items) if item.row is not None]
        self.live += len(indexes)
        own = event.space == self.space and event.vectors is not None
        again = [] if own else self._reembedded(head)
        if not own and not again:
            return
        mixed = _mixed(np.array([seq << _ITEM_BITS | index for index in indexes], dtype=np.uint64)).tolist()
        for index, key in zip(indexes, mixed, strict=True):
            item = event.items[index]
            if own:
                self.placed += 1
                if key < self._highest and event.vectors is not None and item.row is not None:
                    self._held[key] = Row(seq, index, item, event.vectors, item.row, event.dim)
                continue
            for one in again:  # the latest first
                place = one.find(seq << _ITEM_BITS | index)
                if place is not None:
                    self.placed += 1
                    if key < self._highest:
                        self._held[key] = Row(seq, index, item, one.blob, place, one.dim)
                    break
        if len(self._held) > _SLACK * self._count_max:
            self._drop_surplus()

    def _reembedded(self, head: int) -> list[_Again]:
        """Reads the re-embeddings into the space, the latest first."""
        if self._again is None:
            self._again = []
            for record in self._reader.read(1, head, (MemoryReembedded,), chunk_max=1):
                event = record.event
                if isinstance(event, MemoryReembedded) and event.space == self.space and event.rows:
                    rows = np.array(event.rows, dtype=np.uint64)  # (rows, 2)
                    positions = rows[:, 0] << np.uint64(_ITEM_BITS) | rows[:, 1]
                    order = np.argsort(positions, kind="stable")
                    self._again.insert(0, _Again(positions[order], order, event.vectors, event.dim))
        return self._again

    def _drop_surplus(self) -> None:
        if len(self._held) > self._count_max:
            kept = sorted(self._held)[: self._count_max]
            self._held = {key: self._held[key] for key in kept}
            self._highest = kept[-1] + 1


def _up_to(spans: Sequence[Span], last: int) -> tuple[Span, ...]:
    """Gives spans as far as they lie before a position, both ends included."""
    return tuple(Span(span.first, Seq(min(span.last, last))) for span in spans if span.first <= last)


def _mixed(values: Positions) -> Positions:
    """Mixes the bits of each value: the finaliser of SplitMix64 (Steele, Lea & Flood 2014)."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
