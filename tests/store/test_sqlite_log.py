"""What is SQLite's own: triggers, synchronous commits, files that are no log, a full disk."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect
from sqlalchemy.dialects import sqlite

from instar.fsm.errors import ConfigError, LogForeign, LogMissing, LogUnavailable
from instar.store.log import EventLog, Pending, create_log
from instar.store.reader import SCHEMA_HEAD, LogReader
from instar.store.schema import metadata
from instar.store.sqlite_journal import SqliteJournal
from tests.store.logs import feedback, fresh_log, reopened


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    return fresh_log(tmp_path)


def test_damaged_state_snapshot_is_not_used(log: EventLog) -> None:
    log.transact(lambda _: [Pending(feedback(n)) for n in range(300)])
    state = log.state
    log.close()
    with sqlite3.connect(log.path) as connection:
        connection.execute("UPDATE state_snapshots SET state = replace(state, 'Idle', 'Training')")
    connection.close()
    assert reopened(log).state == state


def test_log_whose_saved_states_an_upgrade_made_useless_is_folded_whole_once(
    log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else every command would do it, until enough is appended: seconds each time for a million events."""
    monkeypatch.setattr("instar.store.log.FOLDED_MAX", 400)
    log.transact(lambda _: [Pending(feedback(n)) for n in range(300)])
    log.transact(lambda _: [Pending(feedback(n)) for n in range(300)])
    state, saved = log.state, log.reader.saved_digests()
    log.close()
    with sqlite3.connect(log.path) as connection:
        connection.execute("UPDATE state_snapshots SET digest = '0' || substr(digest, 2)")
        connection.execute("UPDATE state_snapshots SET seq = seq - 1")
    connection.close()
    assert LogReader(log.path).snapshot_before(None).head == 0
    again = reopened(log)
    assert again.state == state
    again.close()
    reader = LogReader(log.path)
    assert reader.snapshot_before(None) == state
    assert len(reader.saved_digests()) == len(saved) + 1
    third = reopened(log)
    assert third.state == state
    assert len(reader.saved_digests()) == len(saved) + 1
    third.close()
    reader.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET actor = 'x' WHERE seq = 1",
        "DELETE FROM events WHERE seq = 2",
        "DELETE FROM events",
        "REPLACE INTO events SELECT * FROM events WHERE seq = 2",
        "INSERT OR REPLACE INTO events SELECT * FROM events WHERE seq = 2",
        "INSERT INTO events SELECT * FROM events WHERE seq = 2 ON CONFLICT(seq) DO UPDATE SET actor = 'x'",
        "INSERT INTO events SELECT seq + 5, type, version, recorded_at_us, cycle, cause, actor, state_before, "
        "state_after, NULL, payload, payload_hash, prev_hash, hash, NULL FROM events WHERE seq = 2",
        "INSERT OR REPLACE INTO events SELECT seq + 2, type, version, recorded_at_us, cycle, cause, actor, "
        "state_before, state_after, 'k', payload, payload_hash, hash, hash, NULL FROM events WHERE seq = 2",
        "INSERT INTO events SELECT seq + 2, type, version, recorded_at_us, cycle, cause, actor, state_before, "
        "state_after, NULL, payload, payload_hash, prev_hash, hash, NULL FROM events WHERE seq = 2",
    ],
)
def test_events_cannot_be_changed_by_sql(log: EventLog, statement: str) -> None:
    log.append(feedback(1), key="k")
    log.append(feedback(2))
    before = list(log.reader.rows())
    connection = sqlite3.connect(log.path)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute(statement)
    connection.close()
    assert list(log.reader.rows()) == before


def test_file_that_is_no_log_is_refused_and_left(tmp_path: Path) -> None:
    text = tmp_path / "log.db"
    text.write_text("hello " * 100)
    for open_it in (LogReader, create_log):
        with pytest.raises(LogForeign):
            open_it(text)
    assert text.read_text() == "hello " * 100
    other = tmp_path / "other" / "log.db"
    other.parent.mkdir()
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE mine (x)")
    connection.close()
    with pytest.raises(LogForeign, match="no event log of Instar"):
        create_log(other)


def test_log_of_a_newer_schema_is_refused(log: EventLog) -> None:
    log.close()
    with sqlite3.connect(log.path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(LogForeign, match="newer Instar"):
        LogReader(log.path)


def test_missing_log_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(LogMissing, match="instar init"):
        LogReader(tmp_path / "log.db")


def driver_of(log: EventLog) -> sqlite3.Connection:
    """The log's own writing connection, freed of its authorizer."""
    journal = log._journal
    assert isinstance(journal, SqliteJournal)
    journal._driver.set_authorizer(None)
    return journal._driver


def test_full_disk_records_nothing_and_loses_nothing(log: EventLog) -> None:
    log.append(feedback(1))
    driver = driver_of(log)
    (pages,) = driver.execute("PRAGMA page_count").fetchone()
    driver.execute(f"PRAGMA max_page_count = {pages}").fetchall()
    with pytest.raises(LogUnavailable, match="Nothing was recorded"):
        log.transact(lambda _: [Pending(feedback(n, input="x" * 2000)) for n in range(200)])
    assert log.reader.head() == 2
    driver.execute("PRAGMA max_page_count = 1073741823").fetchall()
    assert log.append(feedback(2)).seq == 3


def test_lock_that_cannot_be_taken_says_once_what_is_needed(log: EventLog) -> None:
    log.close()
    lock = log.path.with_name("log.lock")
    lock.unlink(missing_ok=True)
    lock.mkdir()
    with pytest.raises(LogUnavailable) as refused:
        EventLog(log.path).append(feedback(1))
    assert str(refused.value).startswith(f"the lock {lock} cannot be taken: ")
    assert str(refused.value).endswith("'. Nothing was done; the folder must be writable.")
    assert str(refused.value).count("writable") == 1


def test_migrated_schema_is_the_declared_one(log: EventLog) -> None:
    found = inspect(create_engine(f"sqlite:///{log.path}"))
    for table in metadata.sorted_tables:
        columns = {
            column["name"]: (str(column["type"]), column["nullable"]) for column in found.get_columns(table.name)
        }
        declared = {
            column.name: (column.type.compile(dialect=sqlite.dialect()), bool(column.nullable))
            for column in table.columns
        }
        assert columns == declared
        names = {index["name"] for index in found.get_indexes(table.name)}
        assert names == {index.name for index in table.indexes}
    with sqlite3.connect(log.path) as connection:
        triggers = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")}
        revision = connection.execute("SELECT version_num FROM alembic_version").fetchone()[0]
    connection.close()
    assert triggers == {"events_no_update", "events_no_delete", "events_appended", "events_erased", "blobs_collected"}
    assert revision == SCHEMA_HEAD


def test_commits_are_synchronous(log: EventLog) -> None:
    driver = driver_of(log)
    assert driver.execute("PRAGMA synchronous").fetchone() == (2,)
    assert driver.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_log_is_not_begun_out_of_an_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import instar.migrations

    monkeypatch.setattr(
        instar.migrations, "__file__", str(tmp_path / "app.zip" / "instar" / "migrations" / "__init__.py")
    )
    with pytest.raises(ConfigError, match="cannot work out of an archive"):
        create_log(tmp_path / "log.db")
    assert list(tmp_path.iterdir()) == []
