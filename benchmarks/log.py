"""The event log against the same bytes in a bare SQLite table."""

from __future__ import annotations

import sqlite3
import tempfile
from pathlib import Path

from instar.engine.replay import replay
from instar.fsm.codec import encode_event
from instar.fsm.events import FeedbackReceived, WorkspaceInitialized
from instar.fsm.policy import Policy
from instar.fsm.words import digest_of
from instar.store.log import EventLog, Pending, create_log
from instar.store.reader import LogReader

from .compare import compare

ONE_BY_ONE, BATCH, REPLAYED = 300, 1000, 20_000


def event(number: int) -> FeedbackReceived:
    """An event of about 300 bytes."""
    return FeedbackReceived(
        task_type="lookup", input=f"request number {number}, in plain words", output="an answer " * 5, confidence=0.5
    )


def fresh(folder: Path) -> EventLog:
    """A log with its first event."""
    create_log(folder / "log.db")
    log = EventLog(folder / "log.db")
    first = WorkspaceInitialized(
        workspace="b", engine="0", tree=digest_of(b""), checkpoint=None, model="", policy=Policy()
    )
    log.append(first)
    return log


def bare(folder: Path) -> sqlite3.Connection:
    """A table for the same bytes, as durable: WAL and synchronous=FULL."""
    connection = sqlite3.connect(folder / "bare.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE events (seq INTEGER PRIMARY KEY, type TEXT, payload TEXT)")
    return connection


def main() -> None:
    """Compares durable appends, one by one and in batches, and a verified replay."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log, table = fresh(folder), bare(folder)

        def insert(payloads: list[str]) -> None:
            table.execute("BEGIN IMMEDIATE")
            table.executemany("INSERT INTO events (type, payload) VALUES ('F', ?)", [(one,) for one in payloads])
            table.execute("COMMIT")

        def ours_single() -> int:
            for number in range(ONE_BY_ONE):
                log.append(event(number))
            return ONE_BY_ONE

        def bare_single() -> int:
            for number in range(ONE_BY_ONE):
                insert([encode_event(event(number)).decode()])
            return ONE_BY_ONE

        def ours_batch() -> int:
            log.transact(lambda _: [Pending(event(number)) for number in range(BATCH)])
            return BATCH

        def bare_batch() -> int:
            insert([encode_event(event(number)).decode() for number in range(BATCH)])
            return BATCH

        compare("durable append, one a commit", {"instar": ours_single, "bare sqlite3": bare_single}, unit="events/s")
        compare("durable append, 1000 a commit", {"instar": ours_batch, "bare sqlite3": bare_batch}, unit="events/s")
        while log.reader.head() < REPLAYED:
            ours_batch()
        reader = LogReader(log.path)

        def verified() -> int:
            return replay(reader).events

        def unverified() -> int:
            return sum(1 for _ in reader.read())

        ways = {"verified replay": verified, "decode alone": unverified}
        compare("replay of 20000 events", ways, unit="events/s", rounds=3)
        log.close()
        reader.close()
        table.close()
