"""Live subscribers: each event once it is recorded, in order, from a durable cursor on."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator

from instar.fsm.errors import ConfigError, LogCorrupt, LogUnavailable
from instar.fsm.record import Recorded
from instar.fsm.words import ORIGIN, Digest, Seq, digest_of

from .head import rewritten
from .reader import LogReader

logger = logging.getLogger("instar.store")

_NAME_CHARS_MAX = 200
RETRY_S, PATIENCE_S = 0.5, 300.0
"""How often, and for how long, a server that is away is asked again."""


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
    A log in a server that goes away is waited for, up to 300 s.

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
        self._away_since: float | None = None
        """Since when the server is away."""
        self._seen: Digest | None = None
        """The hash of the last event that was given, or acknowledged before."""
        self.position = self._resume(start)
        """The last event that was given."""

    def _resume(self, start: Seq | None) -> Seq:
        cursor = self._reader.cursor(self._name) if self._name is not None else None
        if cursor is None:
            return Seq((start or ORIGIN + 1) - 1)
        fault = cursor_fault(self._reader, str(self._name), *cursor)
        if fault:
            raise LogCorrupt(fault)
        self._seen = self._reader.get(cursor[0]).hash
        return cursor[0]

    def acknowledge(self, record: Recorded) -> None:
        """Moves the cursor behind an event, durably.

        Raises:
            ConfigError: this follower keeps no cursor.
            LogUnavailable: it cannot be written, or a server is away for too long.
        """
        if self._name is None:
            raise ConfigError("a follower without a name keeps no cursor: give it one")
        while True:
            try:
                return self._record(self._name, record)
            except LogUnavailable as error:
                if self._over():
                    raise  # it is not remembered, and comes again
                self._bear(error)

    def ready(self) -> Iterator[Recorded]:
        """Gives what is recorded already, and ends.

        Raises:
            LogCorrupt: it does not follow what was given before.
        """
        for record in self._reader.read(self.position + 1):
            if self._seen is not None and record.prev_hash != self._seen:
                raise rewritten(self._reader.place.name, self.position)
            self.position, self._seen = record.seq, record.hash
            yield record

    def wait(self, timeout_s: float | None = None) -> bool:
        """Waits until there is more; False when the time is up or the follower was stopped.

        Raises:
            LogUnavailable: the log cannot be read, or a server is away for too long.
            LogCorrupt: it no longer holds what was given.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        token = -1
        while not self._over():
            try:
                fresh = self._reader.changed_token()
                if fresh != token and self._more():
                    return True
                token = fresh
                self._back()
            except LogUnavailable as error:
                self._bear(error)
                token = -1
            left = self._poll_s if deadline is None else min(self._poll_s, deadline - time.monotonic())
            if left <= 0:
                return False
            self._stopped.wait(left)
        return False

    def _more(self) -> bool:
        head = self._reader.head()
        if self._seen is not None and head < self.position:
            raise rewritten(self._reader.place.name, self.position)
        return head > self.position

    def __iter__(self) -> Iterator[Recorded]:
        while self.wait():
            try:
                for record in self.ready():
                    self._back()
                    yield record
                    if self._ending:
                        return
            except LogUnavailable as error:
                self._bear(error)

    def _over(self) -> bool:
        return self._ending or self._stopped.is_set()

    def _bear(self, error: LogUnavailable) -> None:
        """Waits a moment for a server that is away; raises the error where that is of no use, or was for too long."""
        if self._reader.place.url is None:
            raise error
        if self._over():
            return  # whoever ends it while a server is asked waits for nothing any more
        if self._away_since is None:
            self._away_since = time.monotonic()
            logger.warning("%s Trying again for up to %d s.", error, PATIENCE_S)
        elif time.monotonic() - self._away_since > PATIENCE_S:
            raise error
        self._stopped.wait(RETRY_S)

    def _back(self) -> None:
        if self._away_since is not None:
            self._away_since = None
            logger.warning("the event log can be read again")

    def stop_soon(self) -> None:
        """Ends the iteration after the event in hand, or within a poll; takes no lock, so that a signal may call it."""
        self._ending = True

    def stop(self) -> None:
        """Ends the iteration, from any thread."""
        self._stopped.set()
