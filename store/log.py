"""The event log: append-only, hash-chained, the one source of truth.

An append holds the lock between writers, folds what others recorded meanwhile, lets the machine accept or refuse each
event, and commits durably: when it returns, the events survive a power cut. Threads of one process that append at the
same time share one commit.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from instar.fsm.chain import GENESIS
from instar.fsm.errors import ConfigError, InstarError, LogUnavailable, PositionConflict
from instar.fsm.events import AnyEvent, BlobsCollected, PayloadErased
from instar.fsm.record import Recorded
from instar.fsm.state import AgentState, encode_state, state_digest
from instar.fsm.words import Digest, Seq

from .blobs import BlobStore
from .clock import Clock, SystemClock
from .collecting import erased_in, freed
from .combining import Combiner, Request
from .drafting import DIGEST_EVERY, Draft, Pending
from .failpoints import failpoint
from .follow import Follower, seal
from .migrate import create_log
from .place import Place, place_of
from .ports import Batch, Journal, Row
from .presence import Presence
from .reader import LogReader, apply
from .sqlite_source import SCHEMA_HEAD

__all__ = ["DIGEST_EVERY", "SNAPSHOT_EVERY", "Decide", "EventLog", "Pending", "create_log"]

SNAPSHOT_EVERY = 256

Decide = Callable[[AgentState], Sequence[Pending]]
Collect = Callable[[AgentState], tuple[BlobsCollected, Sequence[Digest]] | None]


class _Append(Request):
    """One call of ``transact``, waiting for its turn."""

    __slots__ = ("decide", "error", "expect", "records")

    def __init__(self, decide: Decide, expect: Seq | None) -> None:
        super().__init__()
        self.decide, self.expect = decide, expect
        self.records: list[Recorded] = []
        self.error: Exception | None = LogUnavailable(
            "the append was cut off before its end was seen. Read the log, or append again under the same key."
        )


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
        self.reader = LogReader(self.place)
        if self.reader.schema != SCHEMA_HEAD:
            self.reader.close()
            create_log(self.place)
            self.reader = LogReader(self.place)
        self.blobs = BlobStore(self.path.with_name("blobs"), self.reader)
        self.blobs.on_full = self._store_waiting
        self._presence = Presence(self.blobs)
        self._appends: Combiner[_Append] = Combiner(self._serve)
        self._memory = threading.Lock()
        self._state, self._hash, self._last_us = AgentState(), GENESIS, 0
        try:
            self._journal = _open_journal(self.place)
        except BaseException:
            self.reader.close()
            raise
        try:
            self._fold()
            self._finish_erasures()
            self._finish_collection()
        except BaseException:
            self.close()
            raise

    def _fold(self) -> None:
        """Brings the state to the head, from the nearest saved one."""
        self._state = self.reader.state_at()
        if self._state.head:
            last = self.reader.get(self._state.head)
            self._hash, self._last_us = last.hash, last.recorded_at_us

    def _finish_erasures(self) -> None:
        """Takes away what a process that died between an erasure and its end has left in files."""
        last = self.reader.erasures_at_head()
        left = [digest for erasure in last for digest in erasure.blobs if self.blobs.is_file(digest)]
        if last:
            self._journal.checkpoint()
            self.blobs.forget(left)

    def _finish_collection(self) -> None:
        """Removes the files that a process which died in a collection has left; nobody has needed them since."""
        head = self._state.head
        record = self.reader.get(head) if head else None
        if record is not None and isinstance(record.event, BlobsCollected):
            gone = (digest for digest, seq in self.blobs.collected().items() if seq == head)
            self.blobs.forget(digest for digest in gone if self.blobs.is_file(digest))

    def now_us(self) -> int:
        """Tells the time by the clock of this log: microseconds since 1970 UTC."""
        return self._clock.now_us()

    # ---- reading ---------------------------------------------------------------------------------------------------

    @property
    def state(self) -> AgentState:
        """The state at the head of the log."""
        self._take_in(self.reader.rows(self._state.head + 1))
        return self._state

    def _take_in(self, rows: Iterable[Row]) -> None:
        """Folds what was recorded since; by whom does not matter."""
        with self._memory:
            state = self._state
            last: Recorded | None = None
            for row in rows:
                if row[0] > state.head:  # else another thread has taken it in
                    last = self.reader.decode(row)
                    state = apply(state, last)
                    if isinstance(last.event, BlobsCollected):
                        self._presence.noticed(last.event)
            if last is not None:
                self._state, self._hash = state, last.hash
                self._last_us = max(self._last_us, last.recorded_at_us)

    def follow(self, name: str | None = None, *, start: Seq | None = None) -> Follower:
        """Subscribes to the log, from the durable cursor of that name on.

        Args:
            name: the subscriber; None keeps no cursor.
            start: the first position, for a subscriber that has no cursor yet; 1 by default.
        """
        return Follower(self.reader, name, start=start, record=self._set_cursor)

    def _set_cursor(self, name: str, record: Recorded) -> None:
        with self._held():
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
        one = (Pending(event, cause, key),)
        return self.transact(lambda _: one, expect=expect)[0]

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
        request = _Append(decide, expect)
        self._appends.submit(request)
        if request.error is not None:
            raise request.error
        return request.records

    def _serve(self, group: Sequence[_Append]) -> None:
        """Records what a group of threads wants, in one commit; each has its own outcome."""
        try:
            self._commit(group)
        except Exception as error:
            if len(group) > 1 and isinstance(error, InstarError):
                for request in group:  # one may be too large for the disk; the others need not fail with it
                    self._serve([request])
                return
            for request in group:
                request.error = error

    def _commit(self, group: Sequence[_Append]) -> None:
        with self._held():
            failpoint("log.locked")
            draft = self._draft()
            failed = {id(request): error for request in group if (error := self._decide(draft, request))}
            failpoint("log.decided")
            if draft.rows:
                self._write(draft)
        for request in group:
            request.error = failed.get(id(request))

    def _draft(self) -> Draft:
        return Draft(
            self._state,
            self._hash,
            self._last_us,
            now_us=self._clock.now_us,
            actor=self.actor,
            known=self.reader.by_key,
        )

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Holds the log against every other writer, with what they recorded taken in."""
        with self._journal.exclusive(self._state.head) as rows:
            if rows:
                self._take_in(rows)
            yield

    def _decide(self, draft: Draft, request: _Append) -> Exception | None:
        try:
            if request.expect is not None and request.expect != draft.state.head:
                raise PositionConflict(f"the log is at event {draft.state.head}, not at {request.expect}: read again")
            pending = request.decide(draft.state)
            self._presence.check(one.event for one in pending)
            request.records = draft.add_all(pending)
        except Exception as error:
            return error
        return None

    def _store_waiting(self) -> None:
        """Makes blobs durable ahead of the event that will name them: a whole tree need not be in memory at once."""
        with self._held():
            waiting = self.blobs.waiting()
            if waiting:
                self._journal.write(Batch((), [(digest, *content) for digest, content in waiting.items()], None))
                self.blobs.settled(list(waiting))

    def _write(self, draft: Draft, doomed: Sequence[Digest] = ()) -> None:
        waiting = self.blobs.waiting()
        state = draft.state
        snapshot = None
        if self._state.head // SNAPSHOT_EVERY != state.head // SNAPSHOT_EVERY:
            snapshot = (state.head, state_digest(state), encode_state(state).decode())
        blobs = [(digest, *content) for digest, content in waiting.items()]
        rewritten = freed(self.reader, self.blobs, erased_in(draft.rows).union(doomed))
        self._journal.write(Batch(draft.rows, blobs, snapshot, rewritten, doomed))
        self.blobs.settled(list(waiting))
        with self._memory:
            if state.head > self._state.head:  # else a reader has caught up meanwhile
                self._state, self._hash, self._last_us = state, draft.digest, draft.last_us

    def erase(self, erasures: Sequence[PayloadErased]) -> list[Recorded]:
        """Records erasures; in the same transaction the payloads and blobs that they name are gone.

        Raises:
            IllegalTransition, LogUnavailable: nothing was erased.
        """
        records = self.transact(lambda _: [Pending(erasure, erasure.target) for erasure in erasures])
        for erasure in erasures:
            self.blobs.forget(erasure.blobs)
        return records

    def collect(self, decide: Collect) -> Recorded | None:
        """Decides under the lock what to collect, and records it; in the same transaction the blobs are gone.

        Args:
            decide: gives the event, whose list is in the store, and what it lists, from the state at the head; None
                collects nothing.

        Raises:
            LogUnavailable: nothing is gone.
        """
        with self._held():
            decided = decide(self._state)
            if decided is None:
                return None
            collection, digests = decided
            draft = self._draft()
            (record,) = draft.add_all([Pending(collection)])
            self._write(draft, digests)
            self._presence.noticed(collection)
        failpoint("log.collected")
        self.blobs.forget(digest for digest in digests if self.blobs.is_file(digest))
        return record

    @contextmanager
    def upkeep(self) -> Iterator[Journal]:
        """Holds the log against every other writer for work that appends nothing."""
        with self._held():
            yield self._journal

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
