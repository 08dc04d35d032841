"""Every log of the contract suite, in a SQLite file and in a stream of a real PostgreSQL server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from instar.store.log import EventLog
from instar.store.place import Place
from tests.store.logs import fresh_log, fresh_stream


@pytest.fixture
def stream(tmp_path: Path) -> Place:
    return fresh_stream(tmp_path)


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return Place(tmp_path / "log.db") if request.param == "sqlite" else fresh_stream(tmp_path)


@pytest.fixture
def log(place: Place) -> Iterator[EventLog]:
    opened = fresh_log(place)
    yield opened
    opened.close()


@pytest.fixture
def reopen() -> Iterator[Callable[[EventLog], EventLog]]:
    opened: list[EventLog] = []

    def again(log: EventLog) -> EventLog:
        opened.append(EventLog(log.place))
        return opened[-1]

    yield again
    for log in opened:
        log.close()
