"""A log that was cut off while processes use it, as by a failover to a standby that lagged: none of them goes on."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from instar.engine.runtime import Runtime
from instar.engine.worker import Worker
from instar.fsm.errors import LogCorrupt
from instar.store.follow import Follower
from instar.store.log import EventLog, Pending
from instar.store.place import Place
from instar.store.postgres_source import connect
from instar.store.reader import LogReader
from tests.engine.agents import code_only
from tests.store.logs import feedback


def cut_behind(place: Place, seq: int) -> None:
    """Takes the events behind a position away, as their owner can; the guards stand again afterwards."""
    if place.url is not None:
        with connect(place) as owner:
            owner.execute(b"ALTER TABLE events DISABLE TRIGGER ALL")
            owner.execute(b"DELETE FROM events WHERE seq > %s", (seq,))
            owner.execute(b"ALTER TABLE events ENABLE TRIGGER ALL")
        return
    connection = sqlite3.connect(place.path)
    guards = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
    for name, _ in guards:
        connection.execute(f"DROP TRIGGER {name}")
    connection.execute("DELETE FROM events WHERE seq > ?", (seq,))
    for _, sql in guards:
        connection.execute(sql)
    connection.commit()
    connection.close()


def gone(seq: int) -> str:
    return f"no longer holds event {seq} as this process has seen it: it was cut off or rewritten"


@pytest.mark.parametrize("others", [0, 1, 2, 3])
def test_no_append_goes_on_from_events_that_are_gone(
    log: EventLog, reopen: Callable[[EventLog], EventLog], others: int
) -> None:
    # Shorter than this process knows it, as long with another event there, and longer by what it does not know.
    for number in range(2):
        log.append(feedback(10 + number))
    known = log.known_head
    cut_behind(log.place, known - 2)
    other = reopen(log)
    for number in range(others):
        other.append(feedback(20 + number))
    for _ in range(2):
        with pytest.raises(LogCorrupt, match=gone(known)):
            log.append(feedback(30))
    with pytest.raises(LogCorrupt, match=gone(known)):
        log.transact(lambda _: [Pending(feedback(31)), Pending(feedback(32))])
    with pytest.raises(LogCorrupt, match=gone(known)):
        log.check_known()
    assert log.reader.head() == known - 2 + others
    assert reopen(log).append(feedback(40)).seq == known - 1 + others


@pytest.mark.parametrize("others", [0, 2])
def test_follower_is_told_that_what_it_was_given_is_gone(
    log: EventLog, reopen: Callable[[EventLog], EventLog], others: int
) -> None:
    log.append(feedback(10))
    reader = LogReader(log.place)
    follower = Follower(reader, None, record=lambda *_: None)
    given = [record.seq for record in follower.ready()]
    cut_behind(log.place, given[-1] - 1)
    other = reopen(log)
    for number in range(others):
        other.append(feedback(20 + number))
    with pytest.raises(LogCorrupt, match=gone(given[-1])):
        next(iter(follower))
    reader.close()


def test_worker_ends_where_its_log_was_cut_off(tmp_path: Path) -> None:
    runtime: Runtime = code_only(tmp_path / "agent")
    for number in range(2):
        runtime.log.append(feedback(number))
    cut_behind(runtime.log.place, 2)
    with pytest.raises(LogCorrupt, match=gone(3)):
        Worker(runtime).run_forever()
    runtime.close()
