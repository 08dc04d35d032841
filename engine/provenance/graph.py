"""The graph of a log: every edge up to a position, read in one pass.

Edges are kept as numbers, eight bytes each; which signals a cycle took up and what the rows of a data set rest on is
looked up when it is asked for.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec
from msgspec import Struct

from instar.fsm.codec import TYPES
from instar.fsm.decisions import waits_for_cycle
from instar.fsm.errors import BlobCorrupt, BlobMissing
from instar.fsm.events import CycleStarted, DatasetGenerated, PayloadErased, Span
from instar.fsm.words import ORIGIN, Digest, Seq
from instar.store.blobs import BlobStore
from instar.store.reader import COLUMNS, LogReader, Row

from .links import Links
from .names import NAMES

_TYPE: Final = tuple(TYPES)
_CODE: Final = {name: number for number, name in enumerate(TYPES)}
_FEEDBACK: Final = _CODE["FeedbackReceived"]
_ALONE: Final = "(type = 'FeedbackReceived' AND cause IS NULL)"
_STRETCH: Final = 4096
"""So many events are read at once."""
_EDGE: Final = tuple(NAMES)
_EDGE_CODE: Final = {name: number for number, name in enumerate(NAMES)}
_EDGE_BITS: Final = 8

Edge = tuple[Seq, str]
"""The earlier event, and the edge's name."""


class RowRefs(Struct, frozen=True):
    """What a row of a data set rests on; ``engine.generate_dataset`` writes it."""

    type: str
    events: tuple[Seq, ...]
    split: str


TEACHING: Final = ("train", "memory")
"""The splits from whose rows weights are learned."""

_ROWS: Final = msgspec.json.Decoder(RowRefs)


class Graph:
    """The edges of the events 1 to ``last``.

    Args:
        reader: the log.
        last: the position up to which it is read.
    """

    def __init__(self, reader: LogReader, last: Seq) -> None:
        self.reader = reader
        self.last = last
        self.links = Links()
        self.blobs = BlobStore(reader.path.with_name("blobs"), reader)
        self.gaps: dict[str, None] = {}
        """What could not be read, and so is missing from the graph."""
        self.unread: set[Seq] = set()
        """The events whose data sets could not be read."""
        self._kinds = bytearray(last + 1)
        self._waits = bytearray(last + 1)
        self._edges: dict[Seq, array[int]] = {}
        self._cycles: dict[Seq, CycleStarted] = {}
        self._datasets: dict[Seq, Digest] = {}
        self._linked: list[Seq] = []
        self._last_rows: tuple[Seq, list[RowRefs]] = (ORIGIN, [])
        self._erasures: dict[Digest, Seq] | None = None
        """By blob the event that first says that it was erased; read when it is first asked for, as one long pass."""
        for first in range(1, last + 1, _STRETCH):
            self._read(first, min(first + _STRETCH - 1, last))

    def _read(self, first: int, last: int) -> None:
        """Takes some events; of those without edges, as nearly every one of a long log, the position is enough."""
        between = "FROM events WHERE seq BETWEEN ? AND ? AND"
        for (seq,) in self.reader.query(f"SELECT seq {between} {_ALONE}", (first, last)):
            self._kinds[seq] = _FEEDBACK
            self._waits[seq] = 1
        for row in self.reader.query(f"SELECT {COLUMNS} {between} NOT {_ALONE} ORDER BY seq", (first, last)):
            self._add(row)

    def _add(self, row: Row) -> None:
        seq, kind = Seq(row[0]), row[1]
        self._kinds[seq] = _CODE[kind]
        record = self.reader.decode(row)
        match record.event:
            case CycleStarted() as cycle:
                self._cycles[seq] = cycle
            case DatasetGenerated(dataset=dataset):
                self._datasets[seq] = dataset
            case event:
                self._waits[seq] = waits_for_cycle(event)
        edges = self.links.of(seq, record.cause, record.event)
        if edges or seq in self._cycles:
            self._linked.append(seq)
            self._edges[seq] = array("Q", [parent << _EDGE_BITS | _EDGE_CODE[name] for parent, name in edges])

    # ---- single events ---------------------------------------------------------------------------------------------

    def type_of(self, seq: Seq) -> str:
        """Names the type of an event."""
        return _TYPE[self._kinds[seq]]

    def latest(self, kind: str) -> Seq | None:
        """Gives the last event of a type."""
        found = self._kinds.rfind(_CODE[kind], 1)
        return Seq(found) if found > 0 else None

    def edges(self, seq: Seq) -> Iterator[Edge]:
        """Yields what an event rests on, each edge once."""
        if seq in self._cycles:
            for parent in self._taken(seq):
                yield parent, "takes up"
        for edge in self._edges.get(seq, ()):
            yield Seq(edge >> _EDGE_BITS), _EDGE[edge & (1 << _EDGE_BITS) - 1]
        if seq in self._datasets:
            yield from self.row_edges(self.rows(seq))

    def _taken(self, seq: Seq) -> list[Seq]:
        """Lists the signals, or the one task, that a cycle took up: all in its span that wait for a cycle."""
        cycle = self._cycles[seq]
        if cycle.entry != "signals":
            return [cycle.span.first]
        found = [Seq(at) for at in _span(cycle.span) if self._waits[at]]
        if len(found) != cycle.count:
            self.gaps[f"cycle {seq} took up {cycle.count} signals, its span holds {len(found)}"] = None
        return found

    def rows(self, seq: Seq) -> list[RowRefs]:
        """Reads what the rows of an event's data set rest on; none where it has no data set, or the blob is gone."""
        dataset = self._datasets.get(seq)
        if dataset is None:
            return []
        if seq in self.unread:
            return []
        if self._last_rows[0] != seq:
            self._last_rows = (seq, self._read_rows(seq, dataset))
        return self._last_rows[1]

    def _read_rows(self, seq: Seq, dataset: Digest) -> list[RowRefs]:
        try:
            return _ROWS.decode_lines(self.blobs.get(dataset))
        except (BlobMissing, BlobCorrupt, msgspec.MsgspecError) as error:
            erased = self._erased_by(dataset)
            self.unread.add(seq)
            why = f"they were erased by event {erased}" if erased else str(error)
            self.gaps[f"the rows of data set {dataset[:12]} (event {seq}) cannot be read: {why}"] = None
            return []

    def _erased_by(self, blob: Digest) -> Seq | None:
        """Finds the event that says that a blob was erased, at any later time."""
        if self._erasures is None:
            self._erasures = {}
            for record in self.reader.read(types=[PayloadErased]):
                if isinstance(record.event, PayloadErased):
                    for erased in record.event.blobs:
                        self._erasures.setdefault(erased, record.seq)
        return self._erasures.get(blob)

    def row_edges(self, rows: Iterable[RowRefs]) -> list[Edge]:
        """Lists what rows of a data set rest on, each edge once."""
        found: dict[Edge, None] = {}
        for row in rows:
            teaches = row.split in TEACHING
            name = "row teaches" if teaches else "row judges"
            for seq in row.events:
                embedded = self.type_of(seq) == "SignalEmbedded"
                found[seq, "row failed in" if embedded else name] = None
                if seq in self.links.before:  # a correction: its wrong side is the version before
                    found[self.links.before[seq], "row corrects" if teaches else name] = None
        return list(found)

    def linked_after(self, seq: Seq) -> list[Seq]:
        """Lists the events after a position that have edges, in order."""
        return self._linked[bisect_right(self._linked, seq) :]

    def children(self, seq: Seq) -> Iterator[Edge]:
        """Yields the later events that rest on an event directly, with the edge's name."""
        for child in self.linked_after(seq):
            for parent, name in self.edges(child):
                if parent == seq:
                    yield child, name


def _span(span: Span) -> range:
    return range(span.first, span.last + 1)
