"""Live subscribers and their durable cursors."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from instar.fsm.errors import ConfigError, LogCorrupt, LogUnavailable
from instar.fsm.words import Seq
from instar.store.follow import Follower, seal
from instar.store.log import EventLog, Pending
from instar.store.place import Place
from tests.store.logs import feedback


def test_follower_gets_each_event_as_it_is_recorded(log: EventLog) -> None:
    follower = log.follow(start=Seq(2))
    seen: list[int] = []
    enough = threading.Event()

    def listen() -> None:
        for record in follower:
            seen.append(record.seq)
            if len(seen) == 30:
                enough.set()

    thread = threading.Thread(target=listen)
    thread.start()
    for n in range(10):
        log.append(feedback(n))
    log.transact(lambda _: [Pending(feedback(n)) for n in range(20)])
    assert enough.wait(30)
    follower.stop()
    thread.join(30)
    assert seen == list(range(2, 32))


def test_cursor_survives_and_what_was_not_acknowledged_comes_again(
    log: EventLog, reopen: Callable[[EventLog], EventLog]
) -> None:
    log.transact(lambda _: [Pending(feedback(n)) for n in range(5)])
    follower = log.follow("index")
    for record in follower.ready():
        if record.seq <= 4:
            follower.acknowledge(record)
    assert [record.seq for record in reopen(log).follow("index").ready()] == [5, 6]
    assert [record.seq for record in log.follow("another").ready()] == [1, 2, 3, 4, 5, 6]


def test_waiting_ends_when_the_time_is_up(log: EventLog) -> None:
    follower = log.follow()
    assert follower.wait(1)
    assert [record.seq for record in follower.ready()] == [1]
    assert not follower.wait(0.1)


def test_acknowledging_writes_no_event_and_appends_go_on(log: EventLog) -> None:
    follower = log.follow("f")
    (record,) = follower.ready()
    follower.acknowledge(record)
    follower.acknowledge(record)
    assert log.reader.cursors() == [("f", 1, seal("f", Seq(1), record.hash))]
    assert log.append(feedback(1)).seq == 2


def test_cursor_of_another_log_is_refused(log: EventLog, reopen: Callable[[EventLog], EventLog]) -> None:
    log.append(feedback(1))
    follower = log.follow("f")
    *_, last = follower.ready()
    follower.acknowledge(last)
    if log.place.url is None:
        with sqlite3.connect(log.path) as connection:
            connection.execute("UPDATE cursors SET seq = 99")
        connection.close()
    else:
        journal = log._journal
        journal._connection.execute("UPDATE cursors SET seq = 99")  # type: ignore[attr-defined]
    with pytest.raises(LogCorrupt, match="cut off or rewritten"):
        reopen(log).follow("f")


def test_name_and_cursor_are_checked(log: EventLog) -> None:
    with pytest.raises(ConfigError, match="characters"):
        log.follow("")
    with pytest.raises(ConfigError, match="without a name"):
        log.follow().acknowledge(log.reader.get(1))


def test_append_after_an_acknowledgement_knows_what_others_recorded(
    log: EventLog, reopen: Callable[[EventLog], EventLog]
) -> None:
    other = reopen(log)
    log.append(feedback(1))
    follower = log.follow("f")
    seen = list(follower.ready())
    other.append(feedback(2))
    follower.acknowledge(seen[-1])
    assert log.append(feedback(3)).seq == 4


class Away:
    """A log in a server that is away, whose follower is asked to end while it is asked."""

    def __init__(self) -> None:
        self.place = Place(Path("log.db"), "postgresql://away.example/agents")
        self.follower: Follower | None = None

    def changed_token(self) -> int:
        assert self.follower is not None
        self.follower.stop_soon()
        raise LogUnavailable("the server cannot be reached")


def test_follower_that_is_ended_while_its_server_is_asked_ends_without_an_error() -> None:
    away = Away()
    follower = Follower(away, None, start=Seq(1), record=lambda *_: None)  # type: ignore[arg-type]
    away.follower = follower
    assert list(follower) == []
