"""The state at the head of a log, as this process knows it; safe to share between threads."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from instar.fsm.chain import GENESIS
from instar.fsm.codec import decode_event
from instar.fsm.errors import LogCorrupt
from instar.fsm.events import BlobsCollected, PayloadErased
from instar.fsm.record import Recorded
from instar.fsm.runs import RUN_TYPES, evolve_run
from instar.fsm.state import AgentState
from instar.fsm.words import ORIGIN, Digest, Seq

from .ports import Row
from .presence import Presence
from .reader import PAYLOAD, LogReader, apply


class Head:
    """State, hash and recorded time of the last event that this process has taken in.

    Args:
        reader: reads the log.
        presence: learns of what was collected or erased.
    """

    __slots__ = ("_lock", "_presence", "_reader", "folded", "hash", "last_us", "state")

    def __init__(self, reader: LogReader, presence: Presence) -> None:
        self._reader, self._presence = reader, presence
        self._lock = threading.Lock()
        self.state, self.hash, self.last_us = AgentState(), GENESIS, 0
        self.folded = 0
        """How many events lay between the nearest saved state and the head when that was found."""

    def find(self) -> Recorded | None:
        """Begins with the last event of the log, its state folded from the nearest saved one; gives that event."""
        saved = self._reader.snapshot_before(None)
        self.state = self._reader.state_after(saved)
        self.folded = self.state.head - saved.head
        if not self.state.head:
            return None
        last = self._reader.get(self.state.head)
        self.hash, self.last_us = last.hash, last.recorded_at_us
        return last

    def take_in(self, rows: Sequence[Row]) -> None:
        """Folds what was recorded since; by whom does not matter.

        Raises:
            LogCorrupt: it does not follow what this process has taken in before.
        """
        with self._lock:
            new = [row for row in rows if row[0] > self.state.head]  # else another thread has taken it in
            if not new:
                return
            if new[0][12] != self.hash:
                raise rewritten(self._reader.place.name, self.state.head)
            state = _folded_at_once(self.state, new)
            if state is None:
                state = self.state
                for row in new:
                    record = self._reader.decode(row)
                    state = apply(state, record)
                    if isinstance(record.event, BlobsCollected):
                        self._presence.noticed(record.event)
                    elif isinstance(record.event, PayloadErased):
                        self._presence.gone(record.event.blobs)
            last = new[-1]
            self.state, self.hash, self.last_us = state, last[13], max(self.last_us, last[3])

    def check(self) -> None:
        """Makes sure that the log still holds the last event that this process has taken in.

        Raises:
            LogCorrupt: it does not.
        """
        state, digest, _ = self.known()
        if state.head and self._reader.query("SELECT hash FROM events WHERE seq = ?", (state.head,)) != [(digest,)]:
            raise rewritten(self._reader.place.name, state.head)

    def known(self) -> tuple[AgentState, Digest, int]:
        """Gives state, hash and time, which belong together."""
        with self._lock:
            return self.state, self.hash, self.last_us

    def move(self, state: AgentState, digest: Digest, last_us: int) -> None:
        """Goes on to what this process recorded."""
        with self._lock:
            if state.head > self.state.head:  # else a reader has caught up meanwhile
                self.state, self.hash, self.last_us = state, digest, last_us


def rewritten(name: str, seq: Seq) -> LogCorrupt:
    """Tells that a log no longer holds an event that somebody has seen in it."""
    return LogCorrupt(
        f"the event log {name} no longer holds event {seq} as this process has seen it: it was cut off or rewritten, "
        "as where a standby that lagged took over, or a backup was put back. Nothing was recorded. Started again, this "
        "goes on from what the log holds; compare that with an anchor or a backup (`instar verify --anchor`).",
        seq=seq,
    )


def _folded_at_once(state: AgentState, rows: Sequence[Row]) -> AgentState | None:
    """Folds rows that are signals, as what others appended mostly is; None if they are not, or do not fit."""
    follow = state.head != ORIGIN and rows[-1][0] - state.head == len(rows)
    if not follow or not all(row[1] in RUN_TYPES and row[PAYLOAD] is not None for row in rows):
        return None
    events: list[Any] = [decode_event(row[1], row[2], row[PAYLOAD].encode()) for row in rows]
    return evolve_run(state, events)
