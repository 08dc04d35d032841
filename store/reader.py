"""Reading the log: the SQLite driver on a read-only connection, without SQLAlchemy.

Reads need no statement builder, the driver decodes rows faster than Core, and a command such as ``instar status`` that
only reads is done before SQLAlchemy would have been imported.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from instar.fsm.codec import decode_event
from instar.fsm.errors import LogCorrupt, LogForeign, LogMissing, LogUnavailable
from instar.fsm.evolve import evolve
from instar.fsm.record import Recorded
from instar.fsm.state import FORM, AgentState, decode_state
from instar.fsm.words import ORIGIN, Digest, Seq, State, digest_of

COLUMNS = (
    "seq, type, version, recorded_at_us, cycle, cause, actor, state_before, state_after, key, payload, payload_hash, "
    "prev_hash, hash, state_digest"
)
APPLICATION_ID = 0x494E5354
"""``INST``: SQLite's application id of our files."""
SCHEMA_HEAD = "0001"
"""The Alembic revision that this version of the code reads and writes."""
CHUNK = 1000

Row = tuple[Any, ...]


def decode_row(row: Row) -> Recorded:
    """Decodes one row of the log, in the order of ``COLUMNS``."""
    seq, kind, version, at_us, cycle, cause, actor, before, after, key, payload, payload_hash, prev, own, digest = row
    return Recorded(
        seq=seq,
        recorded_at_us=at_us,
        cycle=cycle,
        cause=cause,
        actor=actor,
        state_before=State(before),
        state_after=State(after),
        key=key,
        event=decode_event(kind, version, payload.encode()),
        payload_hash=payload_hash,
        prev_hash=prev,
        hash=own,
        state_digest=digest,
    )


def apply(state: AgentState, record: Recorded) -> AgentState:
    """Folds one recorded event."""
    return evolve(state, record.event, seq=record.seq, cause=record.cause, at_us=record.recorded_at_us)


class LogReader:
    """Reads one log file; safe to share between threads, never blocks a writer."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._connection = self._connect()
        try:
            self._check_ours()
        except BaseException:
            self._connection.close()
            raise

    def _connect(self) -> sqlite3.Connection:
        if not self.path.is_file():
            raise LogMissing(f"no event log at {self.path}: run `instar init` in the folder of the agent first")
        try:
            return sqlite3.connect(
                f"file:{quote(str(self.path))}?mode=ro", uri=True, check_same_thread=False, isolation_level=None
            )
        except sqlite3.Error as error:
            raise LogUnavailable(f"the event log {self.path} cannot be opened: {error}") from error

    def _check_ours(self) -> None:
        try:
            (application,) = self._connection.execute("PRAGMA application_id").fetchone()
            tables = {name for (name,) in self._connection.execute("SELECT name FROM sqlite_master")}
            version = (
                self._connection.execute("SELECT version_num FROM alembic_version").fetchone()
                if "alembic_version" in tables
                else None
            )
        except sqlite3.DatabaseError as error:
            raise self._wrapped(error) from error
        if application != APPLICATION_ID or version is None or "events" not in tables:
            raise LogForeign(f"{self.path} is no event log of Instar; it was left as it is. Move it away, then init.")
        if version[0] != SCHEMA_HEAD:
            raise LogForeign(
                f"{self.path} has schema {version[0]}, which this version of Instar does not know. "
                f"Install a newer Instar; nothing was changed."
            )

    def _wrapped(self, error: sqlite3.Error) -> Exception:
        text = str(error)
        if "not a database" in text:
            return LogForeign(f"{self.path} is no SQLite file, so no event log of Instar; it was left as it is.")
        if "malformed" in text or "corrupt" in text:
            return LogCorrupt(f"{self.path} is damaged ({text}). Restore it from a backup, then run `instar verify`.")
        return LogUnavailable(f"the event log {self.path} cannot be read: {text}")

    def _all(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        try:
            with self._lock:
                return self._connection.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise self._wrapped(error) from error

    def close(self) -> None:
        """Closes the connection."""
        with self._lock:
            self._connection.close()

    def head(self) -> Seq:
        """The position of the last event; 0 for an empty log."""
        return Seq(self._all("SELECT coalesce(max(seq), 0) FROM events")[0][0])

    def head_hash(self) -> Digest | None:
        """The hash of the last event."""
        rows = self._all("SELECT hash FROM events ORDER BY seq DESC LIMIT 1")
        return rows[0][0] if rows else None

    def changed_token(self) -> int:
        """A number that changes when another connection commits (SQLite's ``data_version``); cheap to poll."""
        return int(self._all("PRAGMA data_version")[0][0])

    def rows(self, first: int = 1, last: int | None = None, types: Sequence[str] = ()) -> Iterator[Row]:
        """Yields raw rows in order of position, in chunks, so that no read transaction stays open."""
        where = f" AND type IN ({', '.join('?' * len(types))})" if types else ""
        upper = last if last is not None else 2**62
        while True:
            chunk = self._all(
                f"SELECT {COLUMNS} FROM events WHERE seq >= ? AND seq <= ?{where} ORDER BY seq LIMIT {CHUNK}",
                (first, upper, *types),
            )
            yield from chunk
            if len(chunk) < CHUNK:
                return
            first = chunk[-1][0] + 1

    def read(self, first: int = 1, last: int | None = None, types: Sequence[type] = ()) -> Iterator[Recorded]:
        """Yields decoded events from ``first`` to ``last``, both included, of all types or of the given ones."""
        for row in self.rows(first, last, [kind.__name__ for kind in types]):
            yield decode_row(row)

    def tail(self, count: int, types: Sequence[type] = ()) -> list[Recorded]:
        """Gives the last ``count`` events, oldest first."""
        where = f"WHERE type IN ({', '.join('?' * len(types))})" if types else ""
        rows = self._all(
            f"SELECT {COLUMNS} FROM events {where} ORDER BY seq DESC LIMIT ?",
            (*(kind.__name__ for kind in types), count),
        )
        return [decode_row(row) for row in reversed(rows)]

    def get(self, seq: int) -> Recorded:
        """Gives one event.

        Raises:
            LogCorrupt: there is no such position.
        """
        rows = self._all(f"SELECT {COLUMNS} FROM events WHERE seq = ?", (seq,))
        if not rows:
            raise LogCorrupt(f"there is no event {seq} in {self.path}; the head is {self.head()}")
        return decode_row(rows[0])

    def by_key(self, key: str) -> Recorded | None:
        """Gives the event that was recorded under an idempotency key."""
        rows = self._all(f"SELECT {COLUMNS} FROM events WHERE key = ?", (key,))
        return decode_row(rows[0]) if rows else None

    def at_time(self, at_us: int) -> Seq:
        """The position of the last event recorded at or before a time; 0 if there was none."""
        return Seq(self._all("SELECT coalesce(max(seq), 0) FROM events WHERE recorded_at_us <= ?", (at_us,))[0][0])

    def blob(self, digest: str) -> bytes | None:
        """Gives the compressed content of a blob that is kept in the database."""
        rows = self._all("SELECT content FROM blobs WHERE digest = ?", (digest,))
        return rows[0][0] if rows else None

    def blob_known(self, digest: str) -> bool:
        """Says whether a blob is kept in the database."""
        return bool(self._all("SELECT 1 FROM blobs WHERE digest = ?", (digest,)))

    def snapshot_before(self, seq: int) -> AgentState:
        """Gives the nearest saved state of the present form that matches its digest; else the empty state."""
        for _, digest, content in self._all(
            "SELECT seq, digest, state FROM state_snapshots WHERE seq <= ? ORDER BY seq DESC LIMIT 4", (seq,)
        ):
            if digest == f"{FORM}:{digest_of(content.encode())}":
                return decode_state(content.encode())
        return AgentState()

    def saved_digests(self) -> list[tuple[int, str]]:
        """The positions and digests of all saved states."""
        return [(seq, digest) for seq, digest in self._all("SELECT seq, digest FROM state_snapshots ORDER BY seq")]

    def state_at(self, seq: int | None = None) -> AgentState:
        """Folds the log up to a position (the head by default), from the nearest state snapshot."""
        target = self.head() if seq is None else Seq(seq)
        state = self.snapshot_before(target) if target > ORIGIN else AgentState()
        for record in self.read(state.head + 1, target):
            state = apply(state, record)
        return state
