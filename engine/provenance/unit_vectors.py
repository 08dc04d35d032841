"""Which vector each recorded shift was measured against: the latest live one of the same unit in the same space."""

from __future__ import annotations

from typing import NamedTuple

from instar.fsm.events import MemoryReembedded, RollbackStarted, SignalEmbedded, Span
from instar.fsm.words import Digest, Seq


class Shift(NamedTuple):
    """What one item's similarity was measured from: the event with the unit's vector before, and that one's signal."""

    signal: Seq
    before: Seq
    before_signal: Seq


class _Vector(NamedTuple):
    seq: Seq
    number: int
    signal: Seq


class UnitVectors:
    """Follows where each unit was embedded, in which spaces, and which rows are live, as the fold and memory do."""

    def __init__(self) -> None:
        self.shifts: dict[Seq, dict[int, Shift]] = {}
        """For each event and item with a shift what it was measured from."""
        self._live: tuple[Span, ...] = ()
        self._open = False
        self._units: dict[str, list[_Vector]] = {}
        self._spaces: dict[tuple[Seq, int], set[Digest]] = {}

    def embedded(self, seq: Seq, event: SignalEmbedded) -> list[Shift]:
        """Says what the shifts of an event were measured from, and adds its own vectors."""
        found: dict[int, Shift] = {}
        for number, item in enumerate(event.items):
            before = self._last(item.unit, event.space) if item.similarity is not None else None
            if before is not None:
                found[number] = Shift(item.seq, before.seq, before.signal)
        if found:
            self.shifts[seq] = found
        if event.vectors is not None:
            self._extend(seq)
            for number, item in enumerate(event.items):
                if item.kind == "unit" and item.row is not None:
                    self._units.setdefault(item.unit, []).append(_Vector(seq, number, item.seq))
                    self._spaces[seq, number] = {event.space}
        return list(found.values())

    def embedded_again(self, event: MemoryReembedded) -> None:
        """Notes the rows that have a vector in one more space."""
        for row in event.rows:
            if row in self._spaces:
                self._spaces[row].add(event.space)

    def rolled_back(self, event: RollbackStarted) -> None:
        """Takes the rows that a rollback left as the live ones."""
        self._live, self._open = event.memory, False

    def _last(self, unit: str, space: Digest) -> _Vector | None:
        for vector in reversed(self._units.get(unit, ())):
            live = any(span.first <= vector.seq <= span.last for span in self._live)
            if live and space in self._spaces[vector.seq, vector.number]:
                return vector
        return None

    def _extend(self, seq: Seq) -> None:
        if self._open:
            self._live = (*self._live[:-1], Span(self._live[-1].first, seq))
        else:
            self._live, self._open = (*self._live, Span(seq, seq)), True
