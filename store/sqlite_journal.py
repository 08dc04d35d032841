"""Writing a log of SQLite: one connection, behind a fair lock between processes, durable when a write returns."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from functools import partial
from itertools import chain
from pathlib import Path

from sqlalchemy import create_engine, insert
from sqlalchemy.dialects import sqlite
from sqlalchemy.pool import StaticPool

from instar.fsm.errors import LogCorrupt, LogLost, LogUnavailable, PositionConflict
from instar.fsm.words import Digest, Seq

from .asking import Asking
from .failpoints import failpoint
from .forked import forks_apart
from .inserting import Inserter
from .lock import FileLock
from .opened_file import OpenedFile
from .page_fill import filling
from .ports import STAGED, Batch, Row
from .schema import blobs, events, newer, state_snapshots
from .shared_locks import shared_locks
from .sqlite_rights import authorize, authorize_upkeep
from .sqlite_source import absent_or_out_of_reach, closed, refuse_forked, uri_of

WAL_BYTES_MAX = 32 << 20
"""Past this size the write-ahead log is copied into the database and cut to nothing, readers permitting."""
_LOOK_EVERY = 64
"""Commits between two looks at the size of the write-ahead log."""
_CHUNK = 40
"""Rows in one statement: fewer calls of the driver, and the interpreter is free for other threads in each."""

_DIALECT = sqlite.dialect()
# Built by Core from the tables, once; run by the driver, which takes rows as tuples in the order of the columns.
_INSERT_EVENT = str(insert(events).compile(dialect=_DIALECT))
_INSERT_CHUNK = _INSERT_EVENT + f", ({', '.join('?' * len(events.columns))})" * (_CHUNK - 1)
_INSERT_ROWS = _INSERT_EVENT + f", ({', '.join('?' * len(events.columns))})" * (STAGED - 1)
_INSERT_BLOB = str(insert(blobs).prefix_with("OR IGNORE").compile(dialect=_DIALECT))
_INSERT_BLOBS = _INSERT_BLOB + ", (?, ?, ?)" * (_CHUNK - 1)
_INSERT_SNAPSHOT = str(insert(state_snapshots).prefix_with("OR IGNORE").compile(dialect=_DIALECT))
_DOOM = "INSERT INTO doomed (digest, seq) VALUES (?, ?)"
_REWRITE = "UPDATE blobs SET content = ? WHERE digest = ?"
_THIN = "DELETE FROM state_snapshots WHERE seq = ?"
_SELECT_NEW = str(newer.compile(dialect=_DIALECT))
_SET_CURSOR = (
    "INSERT INTO cursors (name, seq, hash) VALUES (?, ?, ?) "
    "ON CONFLICT (name) DO UPDATE SET seq = excluded.seq, hash = excluded.hash"
)

_PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "recursive_triggers=ON",
    "secure_delete=ON",
    "busy_timeout=10000",
    "trusted_schema=OFF",
    "cache_size=-16384",
)


class SqliteJournal:
    """The one writing connection of a process to one file.

    SQLite before 3.51.3 can damage a write-ahead log that two connections write or checkpoint at once: every write and
    every checkpoint of ours happens under the lock, and readers are read-only.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = FileLock(path.with_name("log.lock"))
        try:
            self._file = OpenedFile(path)
        except OSError as error:
            raise absent_or_out_of_reach(path, error) from error
        self._require_kept = self._file.require_kept
        self.asking = Asking(self._lock, self._require_kept)
        self._wal = path.with_name(f"{path.name}-wal")
        self._engine = create_engine("sqlite://", creator=partial(_connect, path), poolclass=StaticPool)
        try:
            self._pooled = self._engine.raw_connection()
        except sqlite3.Error as error:
            raise self._wrapped(error) from error
        driver = self._pooled.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        self._driver = driver
        self._driver.isolation_level = None
        self._process = os.getpid()
        self._closed = False
        self._version = -1
        self._commits = 0
        self._inserter: Inserter | None = None
        try:
            with self._held():
                self.asking.lay_out()
                for pragma in _PRAGMAS:
                    self._driver.execute(f"PRAGMA {pragma}").close()
            self._locks = shared_locks(path)
        except BaseException as error:
            self._pooled.close()
            raise self._wrapped(error) if isinstance(error, sqlite3.Error) else error from error
        self._driver.set_authorizer(authorize)
        forks_apart(self, writes=True)

    def exclusive(self, head: Seq) -> _Turn:
        """Holds the file's lock and a transaction; gives what other connections committed after ``head``."""
        return _Turn(self, self._lock, head)

    def begin(self, head: Seq) -> Sequence[Row]:
        """Takes the lock and begins a transaction; gives what other connections committed after ``head``.

        Whatever it raises, ``end`` has to follow.
        """
        self._acquire(self._file.require)
        driver = self._driver
        try:
            alone = self.asking.alone
            if not alone:
                self.asking.close_gate()
            driver.execute("BEGIN IMMEDIATE")
            if alone and not self._others_wrote():
                return ()
            rows: list[Row] = driver.execute(_SELECT_NEW, (head,)).fetchall()
            if rows:
                self.asking.expect_others()
            return rows
        except sqlite3.Error as error:
            raise self._wrapped(error) from error

    def end(self, level: int, *, failed: bool) -> None:
        """Ends the transaction, if it was not committed, and goes back to a level of the lock. May be done again."""
        if not self._lock.level():  # it is another thread's transaction, if there is one
            self.asking.release()
            return
        try:
            if failed:
                self._version = -1  # what was given may not have been taken in: give it again
                if self._inserter is not None:
                    with suppress(sqlite3.Error):
                        self._inserter.finish()
            if not self._closed and self._driver.in_transaction:  # nothing was written, or it was refused
                self._driver.execute("ROLLBACK")
        finally:
            self.asking.release(level)

    def let_go(self) -> None:
        """Gives the log back, wherever the thread that held it was interrupted."""
        self.end(0, failed=True)

    def append(self, row: Row) -> bool:
        """Commits one event that was drafted from the head as this process knows it.

        SQLite's own check of the row against the head, by trigger, stands in for a look at what others recorded: one
        statement instead of four. Where others append too, that look comes first for a while. If it raises, ``let_go``
        has to follow.

        Returns:
            False if the log is to be held and looked at: nothing was recorded.
        """
        try:
            self._acquire(self._require_kept)
            if self._driver.in_transaction:
                return False
            failpoint("log.locked")
            self._driver.execute(_INSERT_EVENT, row)
        except sqlite3.Error as error:
            wrapped = self._wrapped(error)
            if not isinstance(wrapped, PositionConflict):
                raise wrapped from error
            self.asking.expect_others()
            return False
        finally:
            self._lock.back_to(0)
        self._committed()
        return True

    def _acquire(self, require: Callable[[], object]) -> None:
        """Takes the lock; whatever this raises, it may have been taken."""
        refuse_forked(self._process, self._path)
        if self._closed:
            raise closed(self._path)
        try:
            self._lock.acquire()
        except LogUnavailable:
            self._file.require()  # where the folder is gone there is no lock either
            raise
        if self._closed:  # by the thread that had the lock
            raise closed(self._path)
        require()

    def _held(self) -> AbstractContextManager[None]:
        return self._lock.held(partial(self._acquire, self._file.require))

    def _others_wrote(self) -> bool:
        (version,) = self._driver.execute("PRAGMA data_version").fetchone()
        before, self._version = self._version, version
        return bool(before != version)

    def stage(self, rows: Sequence[Row]) -> bool:
        """Begins to insert rows in the transaction, in a thread of its own; ``write`` waits for it."""
        if self._inserter is None:
            self._inserter = Inserter(self._driver, _INSERT_ROWS)
        self._inserter.begin(rows)
        return True

    def write(self, batch: Batch) -> None:
        """Commits a batch with ``synchronous=FULL``."""
        self._commit(lambda: self._insert(batch))
        self._committed()
        if batch.erases:
            # What was erased must not stay in the write-ahead log, nor where it was asked for.
            self.asking.wipe()
            self.checkpoint()

    def _committed(self) -> None:
        failpoint("log.committed")
        self._commits += 1
        if self._commits % _LOOK_EVERY == 0 and self._wal_bytes() > WAL_BYTES_MAX:
            self.checkpoint()

    def _insert(self, batch: Batch) -> None:
        if self._inserter is not None:
            self._inserter.finish()
        if batch.rewritten:
            with self._upkeep():
                self._driver.executemany(_REWRITE, batch.rewritten)
        self._insert_blobs(filling(batch.blobs))
        rows = batch.events
        whole = len(rows) - len(rows) % _CHUNK
        for first in range(0, whole, _CHUNK):
            self._driver.execute(_INSERT_CHUNK, list(chain.from_iterable(rows[first : first + _CHUNK])))
        if whole < len(rows):
            self._insert_each(rows[whole:])
        if batch.snapshot:
            self._driver.execute(_INSERT_SNAPSHOT, batch.snapshot)
        if batch.doomed:
            seq = rows[-1][0]
            self._driver.executemany(_DOOM, [(digest, seq) for digest in batch.doomed])

    def _insert_blobs(self, rows: Sequence[Row]) -> None:
        whole = len(rows) - len(rows) % _CHUNK
        for first in range(0, whole, _CHUNK):
            self._driver.execute(_INSERT_BLOBS, list(chain.from_iterable(rows[first : first + _CHUNK])))
        if whole < len(rows):
            self._driver.executemany(_INSERT_BLOB, rows[whole:])

    def _insert_each(self, rows: Sequence[Row]) -> None:
        if len(rows) == 1:
            self._driver.execute(_INSERT_EVENT, rows[0])
        else:
            self._driver.executemany(_INSERT_EVENT, rows)

    def _commit(self, work: Callable[[], object]) -> None:
        try:
            work()
            failpoint("log.inserted")
            self._driver.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._wrapped(error) from error

    def set_cursor(self, name: str, seq: Seq, digest: Digest) -> None:
        """Commits how far a follower has come."""
        self._commit(lambda: self._driver.execute(_SET_CURSOR, (name, seq, digest)))

    def rewrite(self, rows: Sequence[Row]) -> None:
        """Commits blobs in another form."""
        with self._upkeep():
            self._commit(lambda: self._driver.executemany(_REWRITE, rows))
        self._commits += 1
        if self._wal_bytes() > WAL_BYTES_MAX:
            self.checkpoint()

    def thin(self, seqs: Sequence[Seq]) -> None:
        """Deletes saved states."""
        with self._upkeep():
            self._commit(lambda: self._driver.executemany(_THIN, [(seq,) for seq in seqs]))

    @contextmanager
    def _upkeep(self) -> Iterator[None]:
        """Lets our connection store a blob in another form and delete saved states, which are copies of the fold."""
        self._driver.set_authorizer(authorize_upkeep)
        try:
            yield
        finally:
            self._driver.set_authorizer(authorize)

    def hold(self) -> None:
        """Does nothing: a file's log lies in the folder, whose own lock tells of its worker."""

    def give_back(self) -> None:
        """Does nothing."""

    def vacuum(self) -> None:
        """Writes the file anew, on a connection of its own, while the lock keeps every other writer out."""
        with self._held(), closing(sqlite3.connect(self._path, isolation_level=None)) as connection:
            try:
                connection.execute("PRAGMA synchronous=FULL").close()
                connection.execute("VACUUM").close()
                failpoint("log.vacuumed")
                connection.execute("PRAGMA busy_timeout=250").close()
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            except sqlite3.Error as error:
                raise self._wrapped(error) from error

    def _wal_bytes(self) -> int:
        try:
            return self._wal.stat().st_size
        except OSError:
            return 0

    def checkpoint(self, patience_ms: int = 250) -> bool:
        """Copies the write-ahead log into the database and cuts it to nothing; says whether no reader postponed that.

        Args:
            patience_ms: how long readers are waited for.
        """
        with self._held():
            try:
                self._driver.execute(f"PRAGMA busy_timeout={patience_ms}").close()
                ((busy, *_),) = self._driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                self._driver.execute("PRAGMA busy_timeout=10000").close()
                with suppress(FileNotFoundError), self._wal.open("rb") as file:
                    os.fsync(file.fileno())  # that it is empty: what was erased must not come back
            except sqlite3.Error as error:
                raise self._wrapped(error) from error
            failpoint("log.checkpointed")
            return not busy

    def close(self) -> None:
        """Closes the connection; then the database alone holds all that was appended, readers permitting.

        A thread that waits for the log meanwhile is told so.
        """
        try:
            with self._held():
                self._disconnect(checkpoints=True)
        except LogLost:
            self._disconnect(
                checkpoints=False
            )  # SQLite sees too that the file is gone, and leaves alone what stands in its place
        except LogUnavailable:
            pass
        self.asking.close()
        self._lock.close()

    def _disconnect(self, *, checkpoints: bool) -> None:
        self._closed = True
        if self._inserter is not None:
            self._inserter.close()
        if checkpoints:
            with suppress(sqlite3.Error):
                self._driver.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        with self._locks.aside() if self._locks else nullcontext():
            self._close_connection()

    def _close_connection(self) -> None:
        self._pooled.close()
        self._engine.dispose()
        self._locks = None

    @property
    def is_in_use(self) -> bool:
        """Whether a thread writes; one that waits for the log does not."""
        return self._lock.is_taken

    def pause(self, timeout_s: float) -> bool:
        """Keeps other threads from writing; False if one did not end in that time."""
        return self._lock.pause(timeout_s)

    def resume(self) -> None:
        """Lets them write again."""
        self._lock.resume()

    def leave(self) -> None:
        """Closes the connection in a process that was forked off, unless that happened amid a transaction."""
        if not self._closed and not self._driver.in_transaction:
            self._close_connection()

    def _wrapped(self, error: sqlite3.Error) -> Exception:
        text = str(error)
        if "append-only" in text:
            return PositionConflict(f"{self._path}: {text}")
        if "prohibited" in text or "not authorized" in text:  # what SQLite makes of an exception in `authorize`
            return LogUnavailable(
                "a signal's handler cut an append off, and its exception was lost. Nothing was recorded: append again."
            )
        if "malformed" in text or "corrupt" in text:
            return LogCorrupt(f"{self._path} is damaged ({text}). Restore it from a backup, then run `instar verify`.")
        return LogUnavailable(
            f"the event log {self._path} cannot be written: {text}. Nothing was recorded; make room or give permission."
        )


def _connect(path: Path) -> sqlite3.Connection:
    """Opens the file that stands there, and makes none. SQLAlchemy keeps this for ever: it holds no journal."""
    return sqlite3.connect(uri_of(path, "mode=rw"), uri=True, check_same_thread=False)


class _Turn:
    """The log held against every other writer, for the length of a ``with`` block."""

    __slots__ = ("_head", "_journal", "_level", "_lock", "_taken")

    def __init__(self, journal: SqliteJournal, lock: FileLock, head: Seq) -> None:
        self._journal, self._lock, self._head, self._level = journal, lock, head, lock.level()
        self._taken = 0

    def __enter__(self) -> Sequence[Row]:
        try:
            rows = self._journal.begin(self._head)
        except BaseException:
            self._journal.end(self._level, failed=True)
            raise
        self._taken = self._lock.taken
        return rows

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is GeneratorExit and not self._lock.is_last(self._taken, self._level):
            return  # dropped long after it was cut off: the lock and the transaction are others'
        self._journal.end(self._level, failed=kind is not None)
