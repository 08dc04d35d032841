"""Writing a log of PostgreSQL: one connection, behind an advisory lock, as a role that may read and append alone."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any

from sqlalchemy import insert
from sqlalchemy.dialects import postgresql

from instar.fsm.errors import LogUnavailable, PositionConflict
from instar.fsm.words import Digest, Seq

from .long_waits import LONG_S, told_after
from .migrate import WRITER_SUFFIX
from .place import Place
from .ports import Batch, Row
from .postgres_hold import Hold, long_turn, name_session
from .postgres_source import connect, driver, refuse_forked, unreachable
from .schema import blobs, cursors, events, newer, state_snapshots

_DIALECT: Any = postgresql.dialect(paramstyle="format")  # type: ignore[no-untyped-call]


def _statement(table: Any, ending: str = "") -> bytes:
    return f"{insert(table).compile(dialect=_DIALECT)}{ending}".encode()


_INSERT_EVENT = _statement(events)
_INSERT_BLOB = _statement(blobs, " ON CONFLICT DO NOTHING")
_INSERT_SNAPSHOT = _statement(state_snapshots, " ON CONFLICT DO NOTHING")
_DOOM = b"INSERT INTO doomed (digest, seq) VALUES (%s, %s)"
_REWRITE = b"UPDATE blobs SET content = %s WHERE digest = %s"
_THIN = b"DELETE FROM state_snapshots WHERE seq = %s"
_SELECT_NEW = str(newer.compile(dialect=_DIALECT)).replace("%s", "%d")
_TAKE_ROLE = (
    "SELECT set_config('role', rolname, false) FROM pg_roles WHERE rolname = %s"  # as SET ROLE, if there is one
)
_SET_CURSOR = _statement(cursors, " ON CONFLICT (name) DO UPDATE SET seq = excluded.seq, hash = excluded.hash")


class PostgresJournal:
    """The one writing connection of a process to one stream.

    The order of a sequence's numbers is not the order of commits, so appends of a stream take turns by an advisory
    lock, whose waiters the server serves in order; it goes with the transaction, and so with a process that dies.
    """

    asking = None

    def __init__(self, place: Place) -> None:
        self._place = place
        self._errors = driver().Error
        self._process = os.getpid()
        self._connection: Any = None
        self._turn = threading.RLock()
        """Held with the stream: of the threads of this process too only one may be in a transaction."""
        self._holder = 0
        """The thread that has begun the transaction, if there is one."""
        self._hold = Hold(place)
        # One journey to the server. Under a stricter isolation by default, what others recorded while this waited for
        # its turn would not be seen. Of the stream's name 8 bytes: two that share them would only wait for each other.
        self._beginning = (
            "BEGIN ISOLATION LEVEL READ COMMITTED; "
            f"SELECT pg_advisory_xact_lock(hashtextextended('{place.stream}', 0)); {_SELECT_NEW}"
        ).encode()
        with suppress(LogUnavailable):
            self._open()

    def _open(self) -> Any:
        refuse_forked(self._process, self._place)
        if self._connection is None or self._connection.closed:
            try:
                connection = connect(self._place, "SET synchronous_commit = on")
                try:
                    self._begin_session(connection)
                except BaseException:
                    connection.close()
                    raise
            except self._errors as error:
                raise unreachable(error, self._place) from error
            self._connection = connection
        return self._connection

    def _begin_session(self, connection: Any) -> None:
        name_session(connection)
        if self._hold.wanted:  # before the role is taken, which may not end a session of ours
            self._hold.take(connection)
        connection.execute(_TAKE_ROLE, (f"{self._place.stream}{WRITER_SUFFIX}",))

    def hold(self) -> None:
        """Takes the lock of the stream's one worker; each later connection takes it again before it is used."""
        try:
            # The transaction that holds the log is rolled back, and with it the change of role; the lock is not.
            self._connection.execute("RESET ROLE")
            self._hold.take(self._connection)
        except self._errors as error:
            raise unreachable(error, self._place) from error
        self._hold.wanted = True

    def give_back(self) -> None:
        """Gives that lock back; with a connection that broke, it went."""
        self._hold.wanted = False
        with self._turn, suppress(self._errors):
            if self._connection is not None and not self._connection.closed:
                self._hold.give_back(self._connection)

    @contextmanager
    def exclusive(self, head: Seq) -> Iterator[Sequence[Row]]:
        """Begins the transaction that a write will commit, and takes the stream's lock in it."""
        refuse_forked(self._process, self._place)
        with self._turn:
            self._holder = threading.get_ident()
            with self._transaction(head) as rows:
                yield rows

    @contextmanager
    def _transaction(self, head: Seq) -> Iterator[Sequence[Row]]:
        opened = self._connection
        connection = self._open()
        try:
            try:
                rows = self._begin(connection, head)
            except self._errors:
                if connection is not opened or not connection.closed:
                    raise
                connection = self._open()  # it had died since the last append, and nothing was written yet
                rows = self._begin(connection, head)
        except self._errors as error:
            self._give_up()
            raise unreachable(error, self._place) from error
        try:
            yield rows
        finally:
            if self._in_transaction():
                with suppress(self._errors):
                    connection.execute("ROLLBACK")

    def _begin(self, connection: Any, head: Seq) -> Sequence[Row]:
        with told_after(LONG_S, lambda: long_turn(self._place)):
            cursor = connection.execute(self._beginning % head)
        while cursor.nextset():
            pass
        rows: Sequence[Row] = cursor.fetchall()
        return rows

    def _in_transaction(self) -> bool:
        connection = self._connection
        return not connection.closed and connection.info.transaction_status != 0  # 0: IDLE

    def let_go(self) -> None:
        """Ends the transaction, and with it the lock, wherever the thread that held it was interrupted."""
        if self._connection is None or os.getpid() != self._process or self._holder != threading.get_ident():
            return  # it is another thread's, if there is one
        if self._in_transaction():
            with suppress(self._errors):
                self._connection.execute("ROLLBACK")

    def append(self, _row: Row) -> bool:
        """Does nothing: between two appends the stream is anybody's, so it is held and looked at."""
        return False

    def stage(self, _rows: Sequence[Row]) -> bool:
        """Does nothing: the driver sends the rows of a batch in a stream of its own."""
        return False

    def write(self, batch: Batch) -> None:
        """Commits a batch; the server's ``fsync`` and ``synchronous_commit`` make it durable."""
        try:
            with self._at_once(), self._connection.cursor() as cursor:
                if batch.rewritten:
                    cursor.executemany(_REWRITE, batch.rewritten)
                if batch.blobs:
                    cursor.executemany(_INSERT_BLOB, batch.blobs)
                if len(batch.events) == 1:
                    cursor.execute(_INSERT_EVENT, batch.events[0])
                else:
                    cursor.executemany(_INSERT_EVENT, batch.events)
                if batch.snapshot:
                    cursor.execute(_INSERT_SNAPSHOT, batch.snapshot)
                if batch.doomed:
                    seq = batch.events[-1][0]
                    cursor.executemany(_DOOM, [(digest, seq) for digest in batch.doomed])
                cursor.execute("COMMIT")
        except self._errors as error:
            raise self._wrapped(error) from error

    def _at_once(self) -> AbstractContextManager[object]:
        """Sends statements without waiting for the answer to each, where the client's library can."""
        return self._connection.pipeline() if driver().Pipeline.is_supported() else nullcontext()

    def set_cursor(self, name: str, seq: Seq, digest: Digest) -> None:
        """Commits how far a follower has come."""
        try:
            self._connection.execute(_SET_CURSOR, (name, seq, digest))
            self._connection.execute("COMMIT")
        except self._errors as error:
            raise self._wrapped(error) from error

    def rewrite(self, rows: Sequence[Row]) -> None:
        """Commits blobs in another form."""
        self._change(_REWRITE, rows)

    def thin(self, seqs: Sequence[Seq]) -> None:
        """Deletes saved states."""
        self._change(_THIN, [(seq,) for seq in seqs])

    def _change(self, statement: bytes, rows: Sequence[Row]) -> None:
        try:
            with self._connection.cursor() as cursor:
                cursor.executemany(statement, rows)
                cursor.execute("COMMIT")
        except self._errors as error:
            raise self._wrapped(error) from error

    def vacuum(self) -> None:
        """Does nothing: the server vacuums its tables by itself."""

    def _wrapped(self, error: Exception) -> Exception:
        text = " ".join(str(error).split())
        if "append-only" in text:
            return PositionConflict(f"{self._place.name}: {text}")
        if self._connection.closed or self._connection.broken:
            return LogUnavailable(
                f"the connection to {self._place.name} broke in an append ({text}): whether it was recorded is not "
                "known. Read the log, or append again under the same key.",
                in_doubt=True,
            )
        return LogUnavailable(f"{self._place.name} cannot be written: {text}. Nothing was recorded.")

    def _give_up(self) -> None:
        with suppress(Exception):
            self._connection.close()

    def checkpoint(self, patience_ms: int = 250) -> bool:  # noqa: ARG002 - as the port has it
        """Does nothing: the server's own write-ahead log is its administrator's."""
        return True

    def close(self) -> None:
        """Closes the connection, unless it is the parent's: closing that here would end it there."""
        if self._connection is not None and os.getpid() == self._process:
            self._connection.close()
