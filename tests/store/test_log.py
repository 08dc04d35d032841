"""The event log: durable, chained, append-only, shared between threads and processes."""

from __future__ import annotations

import itertools
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect

from instar.fsm.errors import IllegalTransition, LogForeign, LogMissing, LogUnavailable, PositionConflict
from instar.fsm.events import CycleStarted, DiffComputed, Span
from instar.fsm.words import Seq
from instar.store.blobs import FILE_BYTES_MIN
from instar.store.log import EventLog, Pending, create_log
from instar.store.reader import SCHEMA_HEAD, LogReader
from instar.store.schema import metadata
from tests.store.logs import INIT, feedback, fresh_log, reopened


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    return fresh_log(tmp_path)


def test_append_gives_gapless_positions_and_a_chain(log: EventLog) -> None:
    records = [log.append(feedback(n)) for n in range(5)]
    assert [record.seq for record in records] == [2, 3, 4, 5, 6]
    read = list(log.reader.read())
    assert read[1:] == records
    for before, after in itertools.pairwise(read):
        assert after.prev_hash == before.hash


def test_reopened_log_has_the_same_state(log: EventLog) -> None:
    for n in range(300):
        log.append(feedback(n))
    state = log.state
    log.close()
    again = EventLog(log.path)
    assert again.state == state
    assert again.reader.saved_digests()
    again.close()


def test_state_at_every_position_is_the_fold_from_the_start(log: EventLog) -> None:
    log.transact(lambda _: [Pending(feedback(n)) for n in range(600)])
    for seq in (1, 2, 255, 256, 257, 512, 601):
        assert log.reader.state_at(seq).head == seq
        assert log.reader.state_at(seq).waiting_count == seq - 1


def test_damaged_state_snapshot_is_not_used(log: EventLog) -> None:
    log.transact(lambda _: [Pending(feedback(n)) for n in range(300)])
    state = log.state
    log.close()
    with sqlite3.connect(log.path) as connection:
        connection.execute("UPDATE state_snapshots SET state = replace(state, 'Idle', 'Training')")
    connection.close()
    assert reopened(log).state == state


def test_refused_event_leaves_nothing_behind(log: EventLog) -> None:
    with pytest.raises(IllegalTransition):
        log.transact(lambda _: [Pending(feedback(1)), Pending(DiffComputed(items=()))])
    assert log.reader.head() == 1
    assert log.append(feedback(1)).seq == 2


def test_key_is_recorded_once(log: EventLog) -> None:
    first = log.append(feedback(1), key="once")
    assert log.append(feedback(1), key="once") == first
    assert log.reader.head() == 2
    assert log.transact(lambda _: [Pending(feedback(1), key="once")]) == [first]
    assert log.reader.head() == 2


def test_expected_position_is_checked(log: EventLog) -> None:
    log.append(feedback(1), expect=Seq(1))
    with pytest.raises(PositionConflict, match="not at 1"):
        log.append(feedback(2), expect=Seq(1))


def test_cause_by_distance_names_the_event_before(log: EventLog) -> None:
    records = log.transact(lambda _: [Pending(feedback(1)), Pending(feedback(2), after=1)])
    assert records[1].cause == records[0].seq


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


def test_threads_append_without_loss_or_gap(log: EventLog) -> None:
    def work(name: int) -> None:
        for n in range(25):
            log.append(feedback(n, task_type=f"t{name}"))

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    read = list(log.reader.read(2))
    assert [record.seq for record in read] == list(range(2, 202))
    for name in range(8):
        own = [r.event.input for r in read if getattr(r.event, "task_type", None) == f"t{name}"]  # type: ignore[union-attr]
        assert own == [f"request {n}" for n in range(25)]


_WRITER = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[3:]
from tests.store.logs import feedback
from instar.store.log import EventLog
log = EventLog(Path(sys.argv[1]))
for n in range(50):
    log.append(feedback(n, task_type=sys.argv[2]))
log.close()
"""


def test_processes_append_without_loss_or_gap(log: EventLog) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", _WRITER, str(log.path), f"p{n}", *sys.path]) for n in range(4)]
    assert [writer.wait(120) for writer in writers] == [0, 0, 0, 0]
    assert log.state.head == 201
    read = list(log.reader.read(2))
    for n in range(4):
        own = [r.event.input for r in read if getattr(r.event, "task_type", None) == f"p{n}"]  # type: ignore[union-attr]
        assert own == [f"request {k}" for k in range(50)]


def test_small_blob_is_durable_with_its_event_and_large_one_is_a_file(log: EventLog) -> None:
    small, large = b"small", bytes(FILE_BYTES_MIN)
    digests = [log.blobs.put(small), log.blobs.put(large)]
    log.append(feedback(1))
    again = reopened(log)
    assert [again.blobs.get(digest) for digest in digests] == [small, large]
    assert [path for path in log.path.with_name("blobs").rglob("*") if path.is_file()]


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


def test_full_disk_records_nothing_and_loses_nothing(log: EventLog) -> None:
    log.append(feedback(1))
    with log._engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(LogUnavailable, match="Nothing was recorded"):
        log.transact(lambda _: [Pending(feedback(n, input="x" * 2000)) for n in range(200)])
    assert log.reader.head() == 2
    with log._engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1073741823")
    assert log.append(feedback(2)).seq == 3


def test_migrated_schema_is_the_declared_one(log: EventLog) -> None:
    found = inspect(create_engine(f"sqlite:///{log.path}"))
    for table in metadata.sorted_tables:
        columns = {
            column["name"]: (str(column["type"]), column["nullable"]) for column in found.get_columns(table.name)
        }
        declared = {
            column.name: (column.type.compile(dialect=log._engine.dialect), bool(column.nullable))
            for column in table.columns
        }
        assert columns == declared
        names = {index["name"] for index in found.get_indexes(table.name)}
        assert names == {index.name for index in table.indexes}
    with sqlite3.connect(log.path) as connection:
        triggers = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")}
        revision = connection.execute("SELECT version_num FROM alembic_version").fetchone()[0]
    connection.close()
    assert triggers == {"events_no_update", "events_no_delete", "events_gapless", "events_key_once", "events_chained"}
    assert revision == SCHEMA_HEAD


def test_commits_are_synchronous(log: EventLog) -> None:
    with log._engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"


def test_cycle_and_states_are_recorded_with_the_event(log: EventLog) -> None:
    log.append(feedback(1))
    span = Span(Seq(2), Seq(2))
    started = log.append(CycleStarted(entry="signals", span=span, count=1), cause=Seq(2))
    assert (started.state_before, started.state_after, started.cycle) == ("Idle", "Diffing", 1)
    assert INIT.tree == log.state.tree
