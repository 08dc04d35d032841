"""SQL that means harm, through somebody else's connection and our own: no event changes, nothing goes unseen."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from instar.fsm.codec import encode_event
from instar.fsm.erasure import remains_of
from instar.fsm.events import PayloadErased
from instar.fsm.words import Seq
from instar.store.log import EventLog, Pending, create_log
from instar.store.schema_faults import schema_faults
from instar.store.sqlite_journal import SqliteJournal
from tests.store.logs import feedback, fresh_log

REST = (
    "type, version, recorded_at_us, cycle, cause, actor, state_before, state_after, {key}, payload, payload_hash, "
    "{prev}, hash, state_digest FROM events WHERE seq = 3"
)


def insert(seq: str, *, key: str = "NULL", prev: str = "hash", verb: str = "INSERT", after: str = "") -> str:
    """Adds a copy of the third event, the head of the log, as another one."""
    return f"{verb} INTO events SELECT {seq}, {REST.format(key=key, prev=prev)} {after}"


HOSTILE = {
    "update or replace": "UPDATE OR REPLACE events SET seq = 2 WHERE seq = 3",
    "update or ignore": "UPDATE OR IGNORE events SET actor = 'x'",
    "update from": "UPDATE events SET payload = o.payload FROM events o WHERE o.seq = 3 AND events.seq = 2",
    "update of the rowid": "UPDATE events SET rowid = 9 WHERE seq = 3",
    "update that changes nothing": "UPDATE events SET actor = actor",
    "payload to nothing without an erasure": "UPDATE events SET payload = NULL WHERE seq = 2",
    "payload of an erased event put back": "UPDATE events SET payload = '{}' WHERE payload IS NULL",
    "erased event changed elsewhere": "UPDATE events SET actor = 'x' WHERE payload IS NULL",
    "erased event deleted": "DELETE FROM events WHERE payload IS NULL",
    "delete of the head": "DELETE FROM events WHERE seq = (SELECT max(seq) FROM events)",
    "insert or ignore of a position that is taken": insert("3", prev="prev_hash", verb="INSERT OR IGNORE"),
    "insert or replace of the head": insert("(SELECT max(seq) FROM events)", verb="INSERT OR REPLACE"),
    "replace without a position": insert("NULL", verb="REPLACE"),
    "position before the first": insert("0"),
    "negative position": insert("-1"),
    "gap": insert("(SELECT max(seq) + 2 FROM events)"),
    "largest position": insert("9223372036854775807"),
    "wrong link": insert("(SELECT max(seq) + 1 FROM events)", prev="prev_hash"),
    "empty link": insert("(SELECT max(seq) + 1 FROM events)", prev="''"),
    "key twice": insert("(SELECT max(seq) + 1 FROM events)", key="'k'", prev="(SELECT hash FROM events WHERE seq = 5)"),
    "key twice, or ignore": insert(
        "6", key="'k'", prev="(SELECT hash FROM events WHERE seq = 5)", verb="INSERT OR IGNORE"
    ),
    "upsert by the position": insert("3", after="ON CONFLICT(seq) DO UPDATE SET actor = 'x'"),
    "upsert by the key": insert(
        "6", key="'k'", prev="(SELECT hash FROM events WHERE seq = 5)", after="ON CONFLICT DO UPDATE SET actor = 'x'"
    ),
    "upsert that does nothing": insert("3", after="ON CONFLICT DO NOTHING"),
}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five events: the fourth is erased by the fifth."""
    log = fresh_log(tmp_path_factory.mktemp("template"))
    log.append(feedback(1), key="k")
    log.append(feedback(2))
    secret = log.append(feedback(3))
    remains = encode_event(remains_of(secret.event)).decode()
    log.erase([PayloadErased(target=secret.seq, payload_hash=secret.payload_hash, remains=remains, reason="asked")])
    assert log.reader.head() == 5
    log.close()
    with closing(plain(log)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return log.path


@pytest.fixture
def log(template: Path, tmp_path: Path) -> Iterator[EventLog]:
    shutil.copyfile(template, tmp_path / "log.db")
    log = EventLog(tmp_path / "log.db")
    yield log
    log.close()


def plain(log: EventLog, *pragmas: str) -> sqlite3.Connection:
    """A connection as any other program would open it."""
    connection = sqlite3.connect(log.path)
    for pragma in pragmas:
        connection.execute(f"PRAGMA {pragma}")
    return connection


@pytest.mark.parametrize("triggers", ["recursive_triggers=ON", "recursive_triggers=OFF"])
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_sql_changes_no_event(log: EventLog, name: str, triggers: str) -> None:
    before = list(log.reader.rows())
    with closing(plain(log, triggers)) as connection, pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute(HOSTILE[name].replace("WHERE seq = 3 ON CONFLICT", "WHERE seq = 3 AND true ON CONFLICT"))
    assert list(log.reader.rows()) == before
    assert log.append(feedback(9)).seq == 6


def test_first_event_of_an_empty_log_is_number_one(log: EventLog, tmp_path: Path) -> None:
    create_log(tmp_path / "empty" / "log.db")
    with closing(sqlite3.connect(tmp_path / "empty" / "log.db")) as connection:
        connection.execute("ATTACH ? AS other", (str(log.path),))
        for position in ("0", "2", "-1", "NULL"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                connection.execute(insert(position).replace("FROM events", "FROM other.events"))


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TRIGGER events_no_delete",
        "DROP INDEX events_key",
        "DROP TRIGGER events_no_update; CREATE TRIGGER events_no_update BEFORE UPDATE ON events WHEN 0 "
        "BEGIN SELECT RAISE(ABORT, 'events are append-only: no event is ever changed'); END",
        "PRAGMA writable_schema = ON; DELETE FROM sqlite_master WHERE type = 'trigger'",
        "CREATE TRIGGER leak AFTER INSERT ON events BEGIN INSERT INTO cursors VALUES (NEW.payload, 1, ''); END",
        "CREATE INDEX mine ON events (actor)",
        "CREATE VIEW mine AS SELECT * FROM events",
        "ALTER TABLE events ADD COLUMN more TEXT",
        "ALTER TABLE cursors RENAME TO others",
    ],
)
def test_altered_schema_is_seen(log: EventLog, statement: str) -> None:
    assert schema_faults(log.reader) == []
    with closing(plain(log)) as connection:
        connection.executescript(statement)
        connection.commit()
    assert schema_faults(log.reader)


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE events",
        "DROP TRIGGER events_no_delete",
        "DROP INDEX events_key",
        "ALTER TABLE events ADD COLUMN more TEXT",
        "CREATE TABLE mine (x)",
        "CREATE TEMP TRIGGER mine AFTER INSERT ON events BEGIN SELECT 1; END",
        "DELETE FROM events",
        "DELETE FROM blobs",
        "DELETE FROM state_snapshots",
        "DELETE FROM alembic_version",
        "UPDATE events SET actor = 'x'",
        "UPDATE blobs SET content = x'00'",
        "UPDATE state_snapshots SET state = ''",
        "UPDATE alembic_version SET version_num = '9999'",
        "PRAGMA writable_schema = ON",
        "PRAGMA synchronous = OFF",
        "PRAGMA journal_mode = DELETE",
        "PRAGMA recursive_triggers = OFF",
        "PRAGMA ignore_check_constraints = ON",
        "ATTACH ':memory:' AS other",
        "VACUUM",
        "REINDEX",
    ],
)
def test_own_connection_refuses_all_but_appending(log: EventLog, statement: str) -> None:
    journal = log._journal
    assert isinstance(journal, SqliteJournal)
    before = list(log.reader.rows())
    with pytest.raises(sqlite3.DatabaseError, match=r"not authorized|prohibited|denied"):
        journal._driver.execute(statement).fetchall()
    assert list(log.reader.rows()) == before
    assert log.append(feedback(9)).seq == 6


def test_vacuum_keeps_everything(log: EventLog) -> None:
    log.blobs.put(b"a small blob")
    log.transact(lambda _: [Pending(feedback(n), key=f"v{n}") for n in range(300)])
    before = list(log.reader.rows()), log.reader.saved_states(), log.reader.stored_blobs()
    with closing(plain(log)) as connection:
        connection.execute("VACUUM")
    assert (list(log.reader.rows()), log.reader.saved_states(), log.reader.stored_blobs()) == before
    assert schema_faults(log.reader) == []
    known = log.reader.by_key("v7")
    assert log.append(feedback(7), key="v7") == known
    assert log.append(feedback(8)).seq == Seq(306)
