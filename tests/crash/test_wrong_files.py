"""What stands in the log's place and is none, two who set it up at once, and a clock that goes back."""

from __future__ import annotations

import multiprocessing
import shutil
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from instar.engine.cli.main import main
from instar.engine.replay import replay
from instar.store.log import EventLog, create_log
from instar.store.reader import SCHEMA_HEAD, LogReader
from instar.store.schema_faults import schema_faults
from tests.crash.flips import settle
from tests.crash.test_disk_faults import appends_again
from tests.crash.test_power_cut import OLDER
from tests.engine.agents import code_only
from tests.store.logs import INIT, feedback, fresh_log

MANY = 200


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def no_database(path: Path) -> None:
    path.write_bytes(b"hello, this is a text " * 300)


def from_the_future(path: Path) -> None:
    _revision(path, "9999")


def of_no_revision(path: Path) -> None:
    _revision(path, "00")


def _revision(path: Path, revision: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
        connection.commit()


@pytest.mark.parametrize(
    ("damage", "code", "says"),
    [
        (no_database, 3, "no SQLite file"),
        (from_the_future, 3, "newer Instar"),
        (of_no_revision, 3, "schema 00"),
        (a_folder, 3, "folder"),
    ],
)
def test_wrong_file_is_refused_by_every_verb_and_left_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], None], code: int, says: str
) -> None:
    runtime = code_only(tmp_path / "agent")
    root, path = runtime.workspace.root, runtime.workspace.log
    head = runtime.state.head
    runtime.close()
    settle(path)
    whole = path.read_bytes()
    damage(path)
    damaged = path.read_bytes() if path.is_file() else None
    given = ("--task-type", "t", "--input", "i", "--output", "o", "--outcome", "pass")
    for verb in (("init", "-C", str(root), "--no-model"), ("status", "-C", str(root)), ("verify", "-C", str(root)),
                 ("feedback", *given, "-C", str(root))):  # fmt: skip
        capsys.readouterr()
        assert main(list(verb)) == code, verb
        assert says in capsys.readouterr().err
    assert (path.read_bytes() if path.is_file() else None) == damaged
    if path.is_dir():
        path.rmdir()
    for ending in ("-wal", "-shm"):
        path.with_name(path.name + ending).unlink(missing_ok=True)
    path.write_bytes(whole)
    with closing(LogReader(path)) as reader:
        assert reader.head() == head
    appends_again(path)


# ---- two at once -----------------------------------------------------------------------------------------------------


def made_at_once(path: Path, processes: int = 4) -> None:
    """Creates or upgrades one log in several processes, which begin together."""
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(processes, context) as pool:
        together = manager.Barrier(processes)
        for made in [pool.submit(_make, path, together) for _ in range(processes)]:
            made.result()


def _make(path: Path, together: threading.Barrier) -> None:
    together.wait(60)
    create_log(path)
    with closing(EventLog(path)) as log:
        log.append(INIT, key="first") if not log.state.head else log.append(feedback(1))


@pytest.mark.parametrize("older", [False, True], ids=["fresh", "older"])
def test_processes_that_create_or_upgrade_at_once_make_one_log(tmp_path: Path, older: bool) -> None:
    path = tmp_path / "home" / "log.db"
    before = 0
    if older:
        path.parent.mkdir()
        shutil.copyfile(OLDER, path)
        with closing(LogReader(path)) as reader:
            before = reader.head()
    made_at_once(path)
    with closing(LogReader(path)) as reader:
        assert reader.schema == SCHEMA_HEAD
        assert schema_faults(reader) == []
        assert before < replay(reader).events <= before + 4
    assert not list(path.parent.glob(".log.db*"))


def test_lock_file_that_was_removed_is_made_anew(tmp_path: Path) -> None:
    """Somebody clears away ``*.lock`` while a process has the log open; another one opens it after that."""
    first = fresh_log(tmp_path)
    (tmp_path / "log.lock").unlink()
    second = EventLog(first.path)
    with ThreadPoolExecutor(2) as pool:
        records = [
            record
            for done in [pool.submit(_append_many, log, name) for log, name in ((first, "a"), (second, "b"))]
            for record in done.result()
        ]
    assert sorted(records) == list(range(2, 2 + 2 * MANY))
    assert replay(first.reader).events == 1 + 2 * MANY
    first.close()
    second.close()


def _append_many(log: EventLog, name: str) -> list[int]:
    return [log.append(feedback(number, task_type=name)).seq for number in range(MANY)]


# ---- the clock -------------------------------------------------------------------------------------------------------


class BackwardClock:
    """Goes back a second each time that it is read."""

    def __init__(self, start_us: int) -> None:
        self.at_us = start_us

    def now_us(self) -> int:
        self.at_us -= 1_000_000
        return self.at_us


def test_recorded_times_never_go_back(tmp_path: Path) -> None:
    """Neither within a process, nor from one to the next, nor between two that are open at once."""
    log = fresh_log(tmp_path)
    start_us = log.reader.get(1).recorded_at_us
    backward = [EventLog(log.path, clock=BackwardClock(start_us)) for _ in range(2)]
    for number in range(6):
        backward[number % 2].append(feedback(number))
    for one in (log, *backward):
        one.close()
    again = EventLog(log.path, clock=BackwardClock(start_us))
    again.append(feedback(7))
    times = [record.recorded_at_us for record in again.reader.read()]
    assert times == sorted(times)
    assert len(times) == 8
    assert replay(again.reader).events == 8
    again.close()
