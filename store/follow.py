"""Live subscribers: each event once it is recorded, in order, from a durable cursor on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

from instar.fsm.errors import ConfigError, LogCorrupt
from instar.fsm.record import Recorded
from instar.fsm.words import ORIGIN, Digest, Seq, digest_of

from .reader import LogReader

_NAME_CHARS_MAX = 200


def seal(name: str, seq: Seq, digest: Digest) -> Digest:
    """Hashes a cursor with the event that it stands behind."""
    return digest_of(f"{name}\n{seq}\n{digest}".encode())


def cursor_fault(reader: LogReader, name: str, seq: Seq, sealed: Digest) -> str:
    """Says what is wrong with a cursor; nothing, if the log still holds the event that was acknowledged."""
    if 0 < seq <= reader.head() and seal(name, seq, reader.get(seq).hash) == sealed:
        return ""
    return (
        f"the follower {name!r} has seen an event {seq} which this log does not hold: it was cut off or rewritten. "
        "Compare it with an anchor or a backup (`instar verify --anchor`)."
    )


class Follower:
    """Gives the events of a log as they are recorded; iterating waits for the next one until ``stop``.

    What was acknowledged is not given again after a restart; what was given and not acknowledged is (at least once).

    Args:
        reader: the log.
        name: whose cursor it is; None for a subscriber that keeps none.
        start: the first position for a subscriber without a cursor.
        record: writes a cursor durably.

    Raises:
        ConfigError: the name cannot be used.
        LogCorrupt: the event at the cursor is no longer the one that was acknowledged.
    """

    def __init__(
        self,
        reader: LogReader,
        name: str | None,
        *,
        start: Seq | None = None,
        record: Callable[[str, Recorded], None],
        poll_s: float = 0.05,
    ) -> None:
        if name is not None and not 0 < len(name) <= _NAME_CHARS_MAX:
            raise ConfigError(f"a follower's name has 1 to {_NAME_CHARS_MAX} characters, not {len(name)}")
        self._reader, self._name, self._record, self._poll_s = reader, name, record, poll_s
        self._stopped = threading.Event()
        self._ending = False
        self.position = self._resume(start)
        """The last event that was given."""

    def _resume(self, start: Seq | None) -> Seq:
        cursor = self._reader.cursor(self._name) if self._name is not None else None
        if cursor is None:
            return Seq((start or ORIGIN + 1) - 1)
        fault = cursor_fault(self._reader, str(self._name), *cursor)
        if fault:
            raise LogCorrupt(fault)
        return cursor[0]

    def acknowledge(self, record: Recorded) -> None:
        """Moves the cursor behind an event, durably.

        Raises:
            ConfigError: this follower keeps no cursor.
            LogUnavailable: it cannot be written.
        """
        if self._name is None:
            raise ConfigError("a follower without a name keeps no cursor: give it one")
        self._record(self._name, record)

    def ready(self) -> Iterator[Recorded]:
        """Gives what is recorded already, and ends."""
        for record in self._reader.read(self.position + 1):
            self.position = record.seq
            yield record

    def wait(self, timeout_s: float | None = None) -> bool:
        """Waits until there is more; False when the time is up or the follower was stopped."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        token = -1
        while not (self._ending or self._stopped.is_set()):
            fresh = self._reader.changed_token()
            if fresh != token and self._reader.head() > self.position:
                return True
            token = fresh
            left = self._poll_s if deadline is None else min(self._poll_s, deadline - time.monotonic())
            if left <= 0:
                return False
            self._stopped.wait(left)
        return False

    def __iter__(self) -> Iterator[Recorded]:
        while self.wait():
            for record in self.ready():
                yield record
                if self._ending:
                    return

    def stop_soon(self) -> None:
        """Ends the iteration after the event in hand, or within a poll; takes no lock, so that a signal may call it."""
        self._ending = True

    def stop(self) -> None:
        """Ends the iteration, from any thread."""
        self._stopped.set()
