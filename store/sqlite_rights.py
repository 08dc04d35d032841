"""What our own writing connection may do to a log: SQLite asks before it prepares a statement."""

from __future__ import annotations

import sqlite3

_ALLOWED = {
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_INSERT,
    sqlite3.SQLITE_TRANSACTION,
    sqlite3.SQLITE_FUNCTION,
    sqlite3.SQLITE_RECURSIVE,
}


def authorize(action: int, first: str | None, _second: str | None, _database: str | None, trigger: str | None) -> int:
    """Allows our own connection to append, to erase and to collect by trigger, to move a cursor, and nothing else."""
    if action in _ALLOWED:
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_UPDATE and (first == "cursors" or trigger == "events_erased"):
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_DELETE and trigger in {"events_erased", "blobs_collected"} and first == "blobs":
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_PRAGMA and first in {"data_version", "wal_checkpoint", "busy_timeout"}:
        return sqlite3.SQLITE_OK
    return sqlite3.SQLITE_DENY


def authorize_upkeep(action: int, first: str | None, second: str | None, database: str | None, by: str | None) -> int:
    """Allows to store a blob in another form, whose name is verified at each reading, and to thin saved states."""
    if action == sqlite3.SQLITE_UPDATE and (first, second) == ("blobs", "content"):
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_DELETE and first == "state_snapshots":
        return sqlite3.SQLITE_OK
    return authorize(action, first, second, database, by)
