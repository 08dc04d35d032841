"""The event log: append-only, hash-chained, the one source of truth.

An append holds the lock between writers, folds what others recorded meanwhile, lets the machine accept or refuse each
event, and commits durably: when it returns, the events survive a power cut. Threads of one process that append at the
same time share one commit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from instar.fsm.errors import ConfigError, LogUnavailable
from instar.fsm.events import AnyEvent, BlobsCollected, PayloadErased
from instar.fsm.record import Recorded
from instar.fsm.state import AgentState
from instar.fsm.words import Digest, Seq

from .appending import SNAPSHOT_EVERY, Appender, Decide
from .blobs import BlobStore
from .clock import Clock, SystemClock
from .drafting import DIGEST_EVERY, Pending
from .failpoints import failpoint
from .follow import Follower, seal
from .head import Head
from .migrate import create_log
from .place import Place, place_of
from .ports import Journal
from .presence import Presence
from .reader import LogReader
from .sqlite_source import SCHEMA_HEAD

__all__ = ["DIGEST_EVERY", "SNAPSHOT_EVERY", "Collect", "Decide", "EventLog", "Pending", "create_log"]

FOLDED_MAX = 1 << 14
"""Where a log was opened from a saved state so far back, as from none after an upgrade that changed their form, the
state at its head is saved."""

ERASING_MS = 5_000
"""How long an erasure waits for readers that keep what goes in the write-ahead log."""

Collect = Callable[[AgentState], tuple[BlobsCollected, Sequence[Digest]] | None]


class EventLog:
    """The log of one workspace, open for appending; safe to share between threads.

    A log of an older schema is brought to the present one first, which changes no event.

    Args:
        where: the SQLite file, or the place of any log.
        actor: who appends, recorded with each event: ``agent``, ``worker``, ``cli``.
        clock: where recorded times come from.

    Raises:
        ConfigError: the actor cannot be recorded.
        LogMissing, LogForeign, LogUnavailable: there is no log, it is not ours, or it cannot be reached.
    """

    def __init__(self, where: Path | Place, *, actor: str = "agent", clock: Clock | None = None) -> None:
        if "\n" in actor:
            raise ConfigError(f"the actor {actor!r} holds a line feed, by which the hash of a row parts its columns")
        self.place = place_of(where)
        self.path = self.place.path
        self.actor = actor
        self._clock = clock or SystemClock()
        self.erased_from_file = True
        """Whether what this process erased last is out of the log's files: a reader that goes on keeps it there."""
        self.reader = LogReader(self.place)
        if self.reader.schema != SCHEMA_HEAD:
            self.reader.close()
            create_log(self.place)
            self.reader = LogReader(self.place)
        self.blobs = BlobStore(self.path.with_name("blobs"), self.reader)
        self._presence = Presence(self.blobs)
        self._head = Head(self.reader, self._presence)
        try:
            self._journal = _open_journal(self.place)
        except BaseException:
            self.reader.close()
            raise
        self._appender = Appender(
            self._journal, self.reader, self.blobs, self._presence, self._head, clock=self._clock, actor=actor
        )
        self.blobs.on_full = self._appender.store_waiting
        try:
            last = self._head.find()
            if self._head.folded > FOLDED_MAX:
                with suppress(LogUnavailable):  # it is a copy: whoever opens the log next folds it again
                    self._appender.save_head()
            if last is not None and isinstance(last.event, PayloadErased):
                self._finish_erasures()
            if last is not None and isinstance(last.event, BlobsCollected):
                self._finish_collection(last.seq)
        except BaseException:
            self.close()
            raise

    def _finish_erasures(self) -> None:
        """Takes away what a process that died between an erasure and its end has left in files."""
        last = self.reader.erasures_at_head()
        left = [digest for erasure in last for digest in erasure.blobs if self.blobs.is_file(digest)]
        if last:
            self._journal.checkpoint()
            self.blobs.forget(left)

    def _finish_collection(self, last: Seq) -> None:
        """Removes the files that a process which died in a collection has left; nobody has needed them since."""
        gone = (digest for digest, seq in self.blobs.collected().items() if seq == last)
        self.blobs.forget(digest for digest in gone if self.blobs.is_file(digest))

    def now_us(self) -> int:
        """Tells the time by the clock of this log: microseconds since 1970 UTC."""
        return self._clock.now_us()

    @property
    def known_head(self) -> Seq:
        """The position of the last event that this process has taken in."""
        return self._head.state.head

    def check_known(self) -> None:
        """Makes sure that the log still holds the last event that this process has taken in.

        Raises:
            LogCorrupt: it was cut off or rewritten since: a server's standby that lagged took over, say.
        """
        self._head.check()

    @property
    def last_us(self) -> int:
        """The time of the last event that this process has taken in; 0 for an empty log."""
        return self._head.last_us

    # ---- reading ---------------------------------------------------------------------------------------------------

    @property
    def state(self) -> AgentState:
        """The state at the head of the log."""
        for rows in self.reader.chunks(self._head.state.head + 1):
            self._head.take_in(rows)
        return self._head.state

    def follow(self, name: str | None = None, *, start: Seq | None = None) -> Follower:
        """Subscribes to the log, from the durable cursor of that name on.

        Args:
            name: the subscriber; None keeps no cursor.
            start: the first position, for a subscriber that has no cursor yet; 1 by default.
        """
        return Follower(self.reader, name, start=start, record=self._set_cursor)

    def _set_cursor(self, name: str, record: Recorded) -> None:
        with self._appender.held():
            self._journal.set_cursor(name, record.seq, seal(name, record.seq, record.hash))

    # ---- appending -------------------------------------------------------------------------------------------------

    def append(
        self,
        event: AnyEvent,
        *,
        cause: Seq | None = None,
        key: str | None = None,
        expect: Seq | None = None,
    ) -> Recorded:
        """Records one event and returns when it is durable.

        Args:
            event: the fact.
            cause: the event that it answers.
            key: an idempotency key: an event that is recorded under it already is returned, and nothing is added.
            expect: the head that the writer decided from.

        Raises:
            IllegalTransition: the machine does not accept the event here.
            PositionConflict: the head is not ``expect``.
            LogUnavailable: the disk is full or read-only; nothing was recorded.
        """
        return self._appender.append(Pending(event, cause, key), expect)

    def transact(self, decide: Decide, *, expect: Seq | None = None) -> list[Recorded]:
        """Decides under the lock what to record, and records all of it or nothing.

        Args:
            decide: gives the events from the state at the head, while no other process can append. It may run in
                another thread that appends at the same time, and again if the disk refused the common commit.
            expect: the head that the writer decided from.

        Raises:
            IllegalTransition: the machine does not accept one of the events.
            PositionConflict: the head is not ``expect``.
            LogUnavailable: the disk is full or read-only; nothing was recorded.
        """
        return self._appender.transact(decide, expect)

    def erase(self, erasures: Sequence[PayloadErased], *, expect: Seq | None = None) -> list[Recorded]:
        """Records erasures; in the same transaction the payloads and blobs that they name are gone.

        Args:
            erasures: what is to go, and what is left of it.
            expect: the head up to which copies were looked for.

        Raises:
            IllegalTransition, LogUnavailable: nothing was erased.
            PositionConflict: the head is not ``expect``; nothing was erased.
        """
        records = self.transact(lambda _: [Pending(erasure, erasure.target) for erasure in erasures], expect=expect)
        for erasure in erasures:
            self.blobs.forget(erasure.blobs)
        self.erased_from_file = self._journal.checkpoint(ERASING_MS)
        return records

    def collect(self, decide: Collect) -> Recorded | None:
        """Decides under the lock what to collect, and records it; in the same transaction the blobs are gone.

        Args:
            decide: gives the event, whose list is in the store, and what it lists, from the state at the head; None
                collects nothing.

        Raises:
            LogUnavailable: nothing is gone.
        """
        with self._appender.held():
            decided = decide(self._head.state)
            if decided is None:
                return None
            collection, digests = decided
            draft = self._appender.draft()
            (record,) = draft.add_all([Pending(collection)])
            self._appender.write(draft, digests)
            self._presence.noticed(collection)
        failpoint("log.collected")
        self.blobs.forget(digest for digest in digests if self.blobs.is_file(digest))
        return record

    @contextmanager
    def upkeep(self) -> Iterator[Journal]:
        """Holds the log against every other writer for work that appends nothing."""
        with self._appender.held():
            yield self._journal

    def hold_stream(self) -> None:
        """Becomes the one worker of a stream, whatever folder or machine another is of; a file's log is in its folder.

        Raises:
            WorkerBusy: there is one.
            LogUnavailable: the server cannot be reached.
        """
        if self.place.url is not None:
            with self._appender.held():
                self._journal.hold()

    def give_stream_back(self) -> None:
        """Lets others become the worker of the stream."""
        self._journal.give_back()

    def vacuum(self) -> None:
        """Gives room that is no longer used back to the file system.

        Raises:
            LogUnavailable: there is too little room for it; nothing was changed.
        """
        self._journal.vacuum()

    def close(self) -> None:
        """Closes the log; what was appended is durable already."""
        self.reader.close()
        self._journal.close()


def _open_journal(place: Place) -> Journal:
    if place.url is None:
        from .sqlite_journal import SqliteJournal

        return SqliteJournal(place.path)
    from .postgres_journal import PostgresJournal

    return PostgresJournal(place)
