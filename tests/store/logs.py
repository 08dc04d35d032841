"""Small logs for tests."""

from __future__ import annotations

import os
import sqlite3
import uuid
from pathlib import Path

import pytest

from instar.fsm.events import FeedbackReceived, WorkspaceInitialized
from instar.fsm.policy import Policy
from instar.fsm.words import digest_of
from instar.store.log import EventLog, create_log
from instar.store.place import Place
from instar.store.reader import LogReader

SERVER = "TEST_POSTGRESQL_URL"

INIT = WorkspaceInitialized(
    workspace="w", engine="0", tree=digest_of(b"tree"), checkpoint=None, model="", policy=Policy()
)


def feedback(number: int, *, task_type: str = "find", input: str | None = None) -> FeedbackReceived:
    return FeedbackReceived(task_type=task_type, input=input or f"request {number}", output="x", outcome="pass")


def fresh_log(where: Path | Place) -> EventLog:
    """A log with its first event; in ``where/log.db``, or at the place."""
    place = Place(where / "log.db") if isinstance(where, Path) else where
    create_log(place)
    log = EventLog(place)
    log.append(INIT)
    return log


def fresh_stream(folder: Path) -> Place:
    """A stream of its own on the server that the environment names; skips the test where there is none."""
    url = os.environ.get(SERVER)
    if not url:
        pytest.skip(f"{SERVER} names no PostgreSQL server: run `tools/with_postgres make test`")
    return Place(folder / "log.db", url, f"t{uuid.uuid4().hex[:20]}")


def reopened(log: EventLog) -> EventLog:
    return EventLog(log.place)


def tamper(log: EventLog, statement: str) -> LogReader:
    """Changes rows as somebody with the file could: without our triggers."""
    log.close()
    with sqlite3.connect(log.path) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute(statement)
    connection.close()
    return LogReader(log.path)
