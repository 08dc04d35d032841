"""The peer that does the least: the log's columns in a bare SQLite table, rows and hashes made beforehand.

As durable as the log (WAL, ``synchronous=FULL``), with its primary key and its partial index, but without types, fold,
chain or triggers.
"""

from __future__ import annotations

import os
import sqlite3
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from instar.fsm.codec import encode_event
from instar.fsm.words import digest_of

from .sample_log import feedback

BareRow = tuple[int | None, str, int, int, int, None, str, str, str, None, str, str, str, str, None]

_TABLE = """
CREATE TABLE events (
    seq INTEGER PRIMARY KEY, type TEXT NOT NULL, version INTEGER NOT NULL, recorded_at_us INTEGER NOT NULL,
    cycle INTEGER NOT NULL, cause INTEGER, actor TEXT NOT NULL, state_before TEXT NOT NULL, state_after TEXT NOT NULL,
    key TEXT, payload TEXT, payload_hash TEXT NOT NULL, prev_hash TEXT NOT NULL, hash TEXT NOT NULL, state_digest TEXT
) STRICT
"""
_INSERT = f"INSERT INTO events VALUES ({', '.join('?' * 15)})"


def open_bare(path: Path, *, busy_s: float = 5.0) -> sqlite3.Connection:
    """Opens the table, and creates it where it is not there; another writer is waited for by SQLite's busy handler."""
    connection = sqlite3.connect(path, timeout=busy_s, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    if not connection.execute("SELECT 1 FROM sqlite_master").fetchone():
        connection.execute(_TABLE)
        connection.execute("CREATE UNIQUE INDEX events_key ON events (key) WHERE key IS NOT NULL")
    return connection


def bare_rows(first: int, count: int) -> list[BareRow]:
    """Makes rows with the bytes of ``feedback`` events, at positions from ``first`` on."""
    return [bare_row(number, number) for number in range(first, first + count)]


def bare_row(seq: int | None, number: int) -> BareRow:
    """Makes one row; without a ``seq`` SQLite gives it the next."""
    payload = encode_event(feedback(number))
    own, prev = digest_of(b"%d" % number), digest_of(b"%d" % (number - 1))
    hashes = (digest_of(payload), prev, own)
    place = ("FeedbackReceived", 1, 1_779_000_000_000_000 + number, 0, None, "agent", "Idle", "Idle", None)
    return (seq, *place, payload.decode(), *hashes, None)


def fdatasync_us(folder: Path, count: int = 200) -> float:
    """The median time in which this disk makes 4 KiB durable: the floor under every durable append."""
    times = []
    with (folder / "synced").open("wb", buffering=0) as file:
        for _ in range(count):
            file.write(bytes(4096))
            started = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - started)
    return statistics.median(times) * 1e6


def insert_bare(connection: sqlite3.Connection, rows: Sequence[BareRow]) -> None:
    """Inserts rows in one durable transaction."""
    connection.execute("BEGIN IMMEDIATE")
    if len(rows) == 1:
        connection.execute(_INSERT, rows[0])
    else:
        connection.executemany(_INSERT, rows)
    connection.execute("COMMIT")
