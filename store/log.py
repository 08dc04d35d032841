"""The event log: append-only, hash-chained, the one source of truth.

An append holds the lock between processes, folds what others recorded meanwhile, lets the machine accept or refuse each
event, and commits with ``synchronous=FULL``: when it returns, the events survive a power cut.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct
from sqlalchemy import Connection, Engine, create_engine, event, insert
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool, StaticPool

from instar.fsm.chain import GENESIS, link
from instar.fsm.codec import encode_event
from instar.fsm.errors import LogForeign, LogUnavailable, PositionConflict
from instar.fsm.events import AnyEvent
from instar.fsm.evolve import evolve
from instar.fsm.record import Recorded
from instar.fsm.state import AgentState, encode_state, state_digest
from instar.fsm.words import Digest, Seq, digest_of

from .blobs import BlobStore
from .clock import Clock, SystemClock
from .lock import FileLock
from .reader import APPLICATION_ID, SCHEMA_HEAD, LogReader, apply
from .schema import blobs, events, state_snapshots

logger = logging.getLogger("instar.store")

DIGEST_EVERY = 64
SNAPSHOT_EVERY = 256

_DIALECT = sqlite.dialect()
# Built by Core from the tables, once; run by the driver, which takes rows as tuples in the order of the columns.
_INSERT_EVENT = str(insert(events).compile(dialect=_DIALECT))
_INSERT_BLOB = str(insert(blobs).prefix_with("OR IGNORE").compile(dialect=_DIALECT))
_INSERT_SNAPSHOT = str(insert(state_snapshots).prefix_with("OR IGNORE").compile(dialect=_DIALECT))


class Pending(Struct, frozen=True):
    """An event that is to be recorded.

    ``after`` names its cause by distance where the cause is recorded in the same append: 1 is the event just before.
    """

    event: AnyEvent
    cause: Seq | None = None
    key: str | None = None
    after: int | None = None


Decide = Callable[[AgentState], Sequence[Pending]]


class EventLog:
    """The log of one workspace, open for appending; safe to share between threads.

    Args:
        path: the SQLite file.
        actor: who appends, recorded with each event: ``agent``, ``worker``, ``cli``.
        clock: where recorded times come from.
    """

    def __init__(self, path: Path, *, actor: str = "agent", clock: Clock | None = None) -> None:
        self.path = path
        self.actor = actor
        self._clock = clock or SystemClock()
        self._lock = FileLock(path.with_name("log.lock"))
        self._memory = threading.Lock()
        self.reader = LogReader(path)
        self.blobs = BlobStore(path.with_name("blobs"), self.reader)
        self._engine = _engine(path)
        self._connection = self._engine.connect()
        self._state = self.reader.state_at()
        last = self.reader.get(self._state.head) if self._state.head else None
        self._hash = last.hash if last else GENESIS
        self._last_us = last.recorded_at_us if last else 0

    # ---- reading ---------------------------------------------------------------------------------------------------

    @property
    def state(self) -> AgentState:
        """The state at the head of the log."""
        with self._memory:
            self._catch_up()
            return self._state

    def _catch_up(self) -> None:
        state = self._state
        last: Recorded | None = None
        for record in self.reader.read(state.head + 1):
            state, last = apply(state, record), record
        if last is not None:
            self._state, self._hash = state, last.hash
            self._last_us = max(self._last_us, last.recorded_at_us)

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
        if key is not None:
            known = self.reader.by_key(key)
            if known is not None:
                return known
        return self.transact(lambda _: [Pending(event, cause, key)], expect=expect)[0]

    def transact(self, decide: Decide, *, expect: Seq | None = None) -> list[Recorded]:
        """Decides under the lock what to record, and records all of it or nothing.

        Args:
            decide: gives the events from the state at the head; called once, while no other process can append.
            expect: the head that the writer decided from.

        Raises:
            IllegalTransition: the machine does not accept one of the events.
            PositionConflict: the head is not ``expect``.
            LogUnavailable: the disk is full or read-only; nothing was recorded.
        """
        try:
            self._lock.acquire()
        except OSError as error:
            raise LogUnavailable(f"the lock beside {self.path} cannot be taken: {error}") from error
        try:
            with self._memory:
                self._catch_up()
                if expect is not None and expect != self._state.head:
                    raise PositionConflict(f"the log is at event {self._state.head}, not at {expect}: read again")
                pending = decide(self._state)
                return self._known(pending) or self._record(pending)
        finally:
            self._lock.release()

    def _known(self, pending: Sequence[Pending]) -> list[Recorded]:
        """Finds an append that was recorded before, under the same keys, as a whole."""
        found = [self.reader.by_key(one.key) for one in pending if one.key is not None]
        known = [record for record in found if record is not None]
        return known if len(known) == len(pending) else []

    def _record(self, pending: Sequence[Pending]) -> list[Recorded]:
        state, prev_hash = self._state, self._hash
        records: list[Recorded] = []
        rows: list[tuple[Any, ...]] = []
        for one in pending:
            state, record, row = self._chain(state, prev_hash, one)
            prev_hash = record.hash
            records.append(record)
            rows.append(row)
        if rows:
            self._write(rows, self._state.head, state)
            self._state, self._hash = state, prev_hash
        return records

    def _chain(
        self, state: AgentState, prev_hash: Digest, one: Pending
    ) -> tuple[AgentState, Recorded, tuple[Any, ...]]:
        """Folds one event and links it; gives its row in the order of the table's columns too."""
        seq = Seq(state.head + 1)
        cause = one.cause if one.after is None else Seq(seq - one.after)
        at_us = self._last_us = max(self._clock.now_us(), self._last_us)
        after = evolve(state, one.event, seq=seq, cause=cause, at_us=at_us)
        payload, kind, version = encode_event(one.event), type(one.event).__name__, one.event.VERSION
        number = after.cycle.number if after.cycle else (state.cycle.number if state.cycle else 0)
        before, then, payload_hash = state.machine, after.machine, digest_of(payload)
        digest = state_digest(after) if seq % DIGEST_EVERY == 0 else None
        own = link(
            prev_hash=prev_hash,
            seq=seq,
            kind=kind,
            version=version,
            recorded_at_us=at_us,
            cycle=number,
            cause=cause,
            actor=self.actor,
            state_before=before,
            state_after=then,
            key=one.key,
            payload_hash=payload_hash,
            state_digest=digest,
        )
        place = (seq, kind, version, at_us, number, cause, self.actor, before.value, then.value, one.key)
        record = Recorded(
            seq=seq,
            recorded_at_us=at_us,
            cycle=number,
            cause=cause,
            actor=self.actor,
            state_before=before,
            state_after=then,
            key=one.key,
            event=one.event,
            payload_hash=payload_hash,
            prev_hash=prev_hash,
            hash=own,
            state_digest=digest,
        )
        return after, record, (*place, payload.decode(), payload_hash, prev_hash, own, digest)

    def _write(self, rows: list[tuple[Any, ...]], head: Seq, after: AgentState) -> None:
        waiting = self.blobs.waiting()
        try:
            with self._connection.begin():
                if waiting:
                    content = [(digest, size, compressed) for digest, (size, compressed) in waiting.items()]
                    self._connection.exec_driver_sql(_INSERT_BLOB, content)
                self._connection.exec_driver_sql(_INSERT_EVENT, rows)
                if head // SNAPSHOT_EVERY != after.head // SNAPSHOT_EVERY:
                    saved = (after.head, state_digest(after), encode_state(after).decode())
                    self._connection.exec_driver_sql(_INSERT_SNAPSHOT, saved)
        except DBAPIError as error:
            raise _wrapped(error, self.path) from error
        self.blobs.settled(list(waiting))

    def close(self) -> None:
        """Closes the log; what was appended is durable already."""
        with self._lock.held():
            self._connection.close()
            self._engine.dispose()
        self.reader.close()


def _engine(path: Path) -> Engine:
    """Builds the one writing connection, with transactions begun by us as SQLAlchemy's SQLite page advises."""
    engine = create_engine(f"sqlite:///{path}", poolclass=StaticPool, connect_args={"check_same_thread": False})

    @event.listens_for(engine, "connect")
    def _configure(connection: sqlite3.Connection, _record: Any) -> None:
        connection.isolation_level = None
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "recursive_triggers=ON",
            "busy_timeout=10000",
            "trusted_schema=OFF",
        ):
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _wrapped(error: DBAPIError, path: Path) -> Exception:
    text = str(error.orig)
    if "append-only" in text:
        return PositionConflict(f"{path}: {text}")
    return LogUnavailable(
        f"the event log {path} cannot be written: {text}. Nothing was recorded; make room or give permission."
    )


def create_log(path: Path) -> None:
    """Creates the log's file, or brings an older one to the present schema; does nothing to a present one.

    Raises:
        LogForeign: the file is there and is no log of ours, or is from a newer version.
        LogUnavailable: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name("log.lock")).held():
        if path.exists() and path.stat().st_size:
            LogReader(path).close()
        _migrate(path)


def _migrate(path: Path) -> None:
    from alembic import command
    from alembic.config import Config

    import instar.migrations

    config = Config()
    config.set_main_option("script_location", str(Path(instar.migrations.__file__).parent))
    engine = create_engine(f"sqlite:///{path}", poolclass=NullPool)
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")
            connection.exec_driver_sql(f"PRAGMA application_id={APPLICATION_ID}")
            connection.commit()
            config.attributes["connection"] = connection
            command.upgrade(config, SCHEMA_HEAD)
            connection.commit()
    except DBAPIError as error:
        raise LogForeign(f"the event log {path} cannot be created or upgraded: {error.orig}") from error
    finally:
        engine.dispose()
