"""Threads that append at the same time share a commit, each with its own outcome."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from instar.fsm.errors import IllegalTransition, LogUnavailable, PositionConflict
from instar.fsm.events import DiffComputed
from instar.fsm.words import Seq
from instar.store.log import EventLog, Pending
from instar.store.ports import Batch, Row
from instar.store.sqlite_journal import SqliteJournal
from tests.store.logs import feedback, fresh_log


class _Held:
    """Holds the log's lock while other threads queue up, and counts the commits after that."""

    def __init__(self, log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: list[int] = []
        self.go = threading.Event()
        self.entered = threading.Event()
        write, append = SqliteJournal.write, SqliteJournal.append

        def slow(journal: SqliteJournal, batch: Batch) -> None:
            self._wait(len(batch.events))
            write(journal, batch)

        def slow_single(journal: SqliteJournal, row: Row) -> bool:
            self._wait(1)
            return append(journal, row)

        monkeypatch.setattr(SqliteJournal, "write", slow)
        monkeypatch.setattr(SqliteJournal, "append", slow_single)
        self.first = threading.Thread(target=lambda: log.append(feedback(0)))
        self.first.start()
        self.entered.wait(30)

    def _wait(self, size: int) -> None:
        self.sizes.append(size)
        self.entered.set()
        self.go.wait(30)


def run(log: EventLog, held: _Held, *works: object) -> list[object]:
    """Starts each work in a thread while the first commit is held; gives what each returned or raised, in order."""
    outcomes: list[object] = [None] * len(works)

    def call(place: int, work: object) -> None:
        try:
            outcomes[place] = work()  # type: ignore[operator]
        except Exception as error:
            outcomes[place] = error

    threads = [threading.Thread(target=call, args=pair) for pair in enumerate(works)]
    for count, thread in enumerate(threads, 1):
        thread.start()
        while len(log._appender.waiting._waiting) < count:  # so that they queue in order
            pass
    held.go.set()
    for thread in [held.first, *threads]:
        thread.join(30)
    return outcomes


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    return fresh_log(tmp_path)


def test_waiting_threads_share_one_commit(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    held = _Held(log, monkeypatch)
    records = run(log, held, *[lambda n=n: log.append(feedback(n)).seq for n in range(1, 9)])
    assert held.sizes == [1, 8]
    assert records == list(range(3, 11))
    assert [record.seq for record in log.reader.read()] == list(range(1, 11))


def test_refusals_in_a_group_touch_nobody_else(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    held = _Held(log, monkeypatch)

    def broken() -> object:
        return log.transact(lambda _: 1 // 0)  # type: ignore[arg-type, return-value]

    outcomes = run(
        log,
        held,
        lambda: log.append(feedback(1)).seq,
        lambda: log.transact(lambda _: [Pending(feedback(2)), Pending(DiffComputed(items=()))]),
        lambda: log.append(feedback(3), expect=Seq(1)),
        broken,
        lambda: log.append(feedback(4)).seq,
    )
    assert [outcomes[0], outcomes[4]] == [3, 4]
    assert [type(outcome) for outcome in outcomes[1:4]] == [IllegalTransition, PositionConflict, ZeroDivisionError]
    assert log.reader.head() == 4


def test_same_key_in_one_group_is_recorded_once(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    held = _Held(log, monkeypatch)
    outcomes = run(log, held, *[lambda: log.append(feedback(1), key="once").seq] * 3)
    assert outcomes == [3, 3, 3]
    assert log.reader.head() == 3


def test_append_that_the_disk_refuses_fails_alone(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    held = _Held(log, monkeypatch)
    journal = log._journal
    assert isinstance(journal, SqliteJournal)
    journal._driver.set_authorizer(None)
    (pages,) = journal._driver.execute("PRAGMA page_count").fetchone()
    journal._driver.execute(f"PRAGMA max_page_count = {pages + 2}").fetchall()
    outcomes = run(
        log,
        held,
        lambda: log.append(feedback(1)).seq,
        lambda: log.append(feedback(2, input="x" * 100_000)),
        lambda: log.append(feedback(3)).seq,
    )
    assert [outcomes[0], outcomes[2]] == [3, 4]
    assert isinstance(outcomes[1], LogUnavailable)
    assert "Nothing was recorded" in str(outcomes[1])


def test_log_opened_before_a_fork_says_so(log: EventLog) -> None:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            log.append(feedback(1))
            told = "appended"
        except LogUnavailable as error:
            told = str(error)
        os.write(write, told.encode())
        os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    told = os.read(read, 4096).decode()
    os.close(read)
    assert "open it again" in told
    assert log.append(feedback(1)).seq == 2
