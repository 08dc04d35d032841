"""A large append is written while it is drafted; it is recorded whole or not at all."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from instar.engine.replay import replay
from instar.fsm.errors import IllegalTransition, LogUnavailable
from instar.fsm.events import DiffComputed
from instar.fsm.words import Seq
from instar.store.log import EventLog, Pending
from instar.store.ports import STAGED
from instar.store.reader import LogReader
from instar.store.sqlite_journal import SqliteJournal
from tests.store.logs import feedback, fresh_log

COUNT = 4 * STAGED + 7


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    return fresh_log(tmp_path)


def driver_of(log: EventLog) -> sqlite3.Connection:
    assert isinstance(log._journal, SqliteJournal)
    log._journal._driver.set_authorizer(None)
    return log._journal._driver


def test_large_append_is_recorded_in_order(log: EventLog) -> None:
    pending = [Pending(feedback(n), key=f"large {n}", after=1) for n in range(COUNT)]
    records = log.transact(lambda _: pending)
    assert [record.event for record in records] == [one.event for one in pending]
    assert records == list(LogReader(log.path).read(2))
    assert replay(log.reader).events == COUNT + 1
    assert log.transact(lambda _: pending) == records


def test_large_append_that_is_refused_at_its_end_leaves_nothing(log: EventLog) -> None:
    head = log.state
    refused = [*(Pending(feedback(n)) for n in range(COUNT)), Pending(DiffComputed(items=()))]
    with pytest.raises(IllegalTransition):
        log.transact(lambda _: refused)
    assert log.state == head
    assert log.reader.head() == head.head
    assert log.append(feedback(1)).seq == head.head + 1
    assert len(log.transact(lambda _: refused[:-1])) == COUNT


def test_large_append_that_the_disk_refuses_leaves_nothing(log: EventLog) -> None:
    driver = driver_of(log)
    (pages,) = driver.execute("PRAGMA page_count").fetchone()
    driver.execute(f"PRAGMA max_page_count = {pages + 20}").fetchall()
    with pytest.raises(LogUnavailable, match="Nothing was recorded"):
        log.transact(lambda _: [Pending(feedback(n)) for n in range(COUNT)])
    assert log.reader.head() == 1
    driver.execute("PRAGMA max_page_count = 1073741823").fetchall()
    assert len(log.transact(lambda _: [Pending(feedback(n)) for n in range(COUNT)])) == COUNT
    assert replay(log.reader).events == COUNT + 1


def test_single_append_takes_in_what_another_process_recorded(log: EventLog) -> None:
    other = EventLog(log.path, actor="other")
    assert log.append(feedback(1)).seq == 2
    assert [other.append(feedback(n)).seq for n in range(2, 5)] == [3, 4, 5]
    assert log.append(feedback(5)).seq == 6
    assert other.append(feedback(6), expect=Seq(6)).seq == 7
    assert log.append(feedback(7)).seq == 8
    assert replay(log.reader).events == 8
    assert log.state == other.state


def test_single_append_that_is_refused_says_why(log: EventLog) -> None:
    with pytest.raises(IllegalTransition, match="the machine is in Idle"):
        log.append(DiffComputed(items=()), cause=Seq(1))
    with pytest.raises(IllegalTransition, match="cannot answer event 9"):
        log.append(feedback(1), cause=Seq(9))
    assert log.append(feedback(1)).seq == 2
