"""What a decision rested on: earlier rows of the log, looked up again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from instar.fsm.codec import decode_event
from instar.fsm.decisions import SIGNALS, point_of, waits_for_cycle
from instar.fsm.errors import ReplayDiverged
from instar.fsm.events import AnyEvent, SignalEmbedded
from instar.fsm.retention import Point
from instar.fsm.state import Cycle
from instar.fsm.values import Span
from instar.fsm.words import Digest, Seq
from instar.store.reader import LogReader, Row

_SIGNAL_NAMES = tuple(kind.__name__ for kind in SIGNALS)


class Fact(NamedTuple):
    """One recorded event, and how it stands in the log.

    Attributes:
        event: the fact; what is left of it, if its payload was erased.
        erased: whether it was.
    """

    seq: Seq
    cause: Seq | None
    key: str | None
    at_us: int
    payload_hash: Digest
    hash: Digest
    event: AnyEvent
    erased: bool


class Facts:
    """Looks up earlier events; the signals of the cycle in progress are read once."""

    def __init__(self, reader: LogReader) -> None:
        self._reader = reader
        self._signals: tuple[Seq, list[Fact]] | None = None

    def at(self, seq: Seq, asking: Seq) -> Fact:
        """Gives an event that another one names.

        Raises:
            ReplayDiverged: it does not lie before the one that names it.
        """
        if not 1 <= seq < asking:
            raise ReplayDiverged(asking, "cause", f"an event before {asking}", seq)
        return next(self.read(seq, seq))

    def signals(self, cycle: Cycle) -> list[Fact]:
        """Gives the signals that a cycle took up, in order."""
        if self._signals is None or self._signals[0] != cycle.started:
            taken = list(self.waiting(cycle.span)) if cycle.entry == "signals" else []
            self._signals = (cycle.started, taken)
        return self._signals[1]

    def waiting(self, span: Span) -> Iterator[Fact]:
        """Yields what waited for a cycle of signals within a span."""
        return (fact for fact in self.read(span.first, span.last, _SIGNAL_NAMES) if waits_for_cycle(fact.event))

    def embedded(self, spans: Iterable[Span]) -> Iterator[tuple[Fact, SignalEmbedded]]:
        """Yields the rows of memory within spans of the log."""
        for span in spans:
            for fact in self.read(span.first, span.last, (SignalEmbedded.__name__,)):
                if isinstance(fact.event, SignalEmbedded):
                    yield fact, fact.event

    def between(self, first: Seq, last: Seq, kind: type) -> bool:
        """Says whether an event of a type lies between two others."""
        return any(True for _ in self.read(Seq(first + 1), Seq(last - 1), (kind.__name__,)))

    def first_after(self, at_us: int, asking: Seq) -> Seq:
        """Gives the first event that was recorded after a time; the asking one, if none before it was."""
        return Seq(min(self._reader.at_time(at_us) + 1, asking))

    def points(self, asking: Seq) -> list[Point]:
        """Gives the snapshots and promotions before an event."""
        facts = self.read(Seq(1), Seq(asking - 1), ("SnapshotTaken", "OutcomeRewarded"))
        found = (point_of(fact.seq, fact.event) for fact in facts)
        return [point for point in found if point is not None]

    def read(self, first: Seq, last: Seq, types: tuple[str, ...] = ()) -> Iterator[Fact]:
        """Yields events from ``first`` to ``last``, both included."""
        return (self._fact(row) for row in self._reader.rows(first, last, types))

    def _fact(self, row: Row) -> Fact:
        seq, kind, version, at_us, _, cause, _, _, _, key, payload, payload_hash, _, own, _ = row
        content = self._reader.remains(seq) if payload is None else payload
        event = decode_event(kind, version, content.encode())
        return Fact(seq, cause, key, at_us, payload_hash, own, event, payload is None)
