"""Folds a stretch of the log whose chain was verified, and compares what every row says with what the fold gives.

Signals, which most events are, are decoded by type and folded in runs; a run ends where the digest of a state is due.
Here too the answer is yes or no: who is told no folds the rows one by one (``folding.py``), and names the first that
differs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import compress
from operator import not_, or_
from typing import Any, Final, NamedTuple

from msgspec import MsgspecError

from instar.fsm.codec import DECODERS, decode_event
from instar.fsm.errors import InstarError
from instar.fsm.events import ChangeObserved, Event, FeedbackReceived
from instar.fsm.evolve import evolve
from instar.fsm.runs import evolve_signals
from instar.fsm.state import FORM, AgentState, form_of, state_digest
from instar.fsm.words import Seq
from instar.store.columns import Columns

DIGEST_EVERY: Final = 64
"""How often a row must hold the digest of the whole state."""


class Folded(NamedTuple):
    """Where a fold has come to, and what it compared on the way."""

    state: AgentState
    transitions: int
    digests: int


class Unfit(Exception):
    """A row says something else than the fold, or cannot be folded together with others."""


_FAULTS: Final = (Unfit, InstarError, MsgspecError, ValueError)
"""A payload that cannot be read, an event that the machine does not accept, a number that is none."""


def readable(columns: Columns) -> bool:
    """Says whether every payload has the shape of its type and version."""
    try:
        for kind, version, payload in zip(columns.kinds, columns.versions, columns.payloads, strict=True):
            decode_event(kind, int(version), payload)
    except _FAULTS:
        return False
    return True


def fold_stretch(state: AgentState, columns: Columns, *, digests: bool) -> Folded | None:
    """Folds the rows of a stretch; gives None if one of them does not fit.

    Args:
        state: the state in front of it.
        columns: the rows.
        digests: compare the digests of states.
    """
    try:
        stretch = _Stretch(state, columns, digests)
        stretch.fold()
    except _FAULTS:
        return None
    return Folded(stretch.state, stretch.transitions, stretch.compared)


class _Stretch:
    """Holds how far the fold has come.

    Raises:
        InstarError, MsgspecError, ValueError: a row cannot be read.
    """

    def __init__(self, state: AgentState, columns: Columns, digests: bool) -> None:
        self.state = state
        self.transitions = self.compared = 0
        self._columns, self._digests = columns, digests
        self._first, kinds = columns.first, columns.kinds
        feedback = [kind == "FeedbackReceived" for kind in kinds]
        self._is_change = [kind == "ChangeObserved" for kind in kinds]
        self._is_other = [*map(not_, map(or_, feedback, self._is_change))]
        deque(_decoded_alike(columns, feedback, FeedbackReceived), maxlen=0)  # read, and let go at once
        self._changes = [*_decoded_alike(columns, self._is_change, ChangeObserved)]
        self._places = [*compress(range(self._first, self._first + len(kinds)), self._is_change)]
        self._taken = 0

    def fold(self) -> None:
        """Folds every row. That each is in the state which the one before it left was compared with the chain.

        Raises:
            Unfit, InstarError, MsgspecError, ValueError: one does not fit.
        """
        of, done = self._columns, 0
        events = _decoded(of, self._is_other)
        each = zip(range(len(of.kinds)), of.causes, of.times, of.afters, of.cycles, strict=True)
        if of.befores.partition(",")[0] != self.state.machine:
            raise Unfit
        for event, (at, cause, time, after, cycle) in zip(events, compress(each, self._is_other), strict=True):
            if done < at:
                self._signals(done, at)
            done = at + 1
            state = self.state
            seq, answered = Seq(self._first + at), Seq(int(cause)) if cause else None
            self.state = folded = evolve(state, event, seq=seq, cause=answered, at_us=int(time))
            current = folded.cycle or state.cycle
            number = current.number if current is not None else 0
            if after != folded.machine or cycle != str(number):
                raise Unfit
            if folded.since != state.since:
                self.transitions += 1
            if of.digests[at] or not seq % DIGEST_EVERY:
                self._compare_digest(at)
        self._signals(done, len(of.kinds))

    def _signals(self, begin: int, end: int) -> None:
        """Folds rows that are all signals, up to each digest that is due."""
        while begin < end:
            ahead = DIGEST_EVERY - (self._first + begin - 1) % DIGEST_EVERY
            last = min(end, begin + ahead)
            self._run(begin, last)
            if self._columns.digests[last - 1] or last == begin + ahead:
                self._compare_digest(last - 1)
            begin = last

    def _run(self, begin: int, end: int) -> None:
        of, state, count = self._columns, self.state, end - begin
        number = str(state.cycle.number if state.cycle else 0)
        if (
            of.afters[begin:end] != [state.machine.value] * count
            or of.cycles[begin:end] != [number] * count
            or any(of.digests[begin : end - 1])
        ):
            raise Unfit
        first = self._taken
        self._taken = last = first + self._is_change[begin:end].count(True)
        changes, places = self._changes[first:last], self._places[first:last]
        self.state = evolve_signals(state, Seq(self._first + end - 1), changes, places)

    def _compare_digest(self, at: int) -> None:
        """Compares the digest that a row holds with that of the state after it."""
        digest = self._columns.digests[at]
        if self._digests:
            if digest != state_digest(self.state, form_of(digest) or FORM):
                raise Unfit
            self.compared += 1


def _decoded(columns: Columns, those: list[bool]) -> list[Any]:
    """Decodes some of the payloads, of whatever types and versions."""
    each = compress(zip(columns.kinds, columns.versions, columns.payloads, strict=True), those)
    return [decode_event(kind, int(version), payload) for kind, version, payload in each]


def _decoded_alike(columns: Columns, those: list[bool], kind: type[Event]) -> Iterator[Any]:
    """Decodes the payloads of one type, where all are of its present version with no step of Python an event."""
    versions = [*compress(columns.versions, those)]
    if versions.count(str(kind.VERSION)) < len(versions):
        return iter(_decoded(columns, those))
    return map(DECODERS[kind].decode, compress(columns.payloads, those))
