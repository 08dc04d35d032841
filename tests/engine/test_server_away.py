"""Who works on or follows a log whose server goes away says so, waits, and goes on when it is back."""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from instar.engine import worker as engine_worker
from instar.engine.initialize import initialize
from instar.engine.runtime import Runtime
from instar.engine.settings import Settings
from instar.engine.worker import Worker
from instar.fsm.errors import LogUnavailable
from instar.fsm.words import Seq
from instar.store import follow as store_follow
from tests.store.logs import SERVER, feedback

psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'instar[postgresql]'")


class Database:
    """A database of a real server, which can be shut and opened without a harm to others."""

    def __init__(self, server: str) -> None:
        self.name = f"t{uuid.uuid4().hex[:20]}"
        self.url = f"{server.rpartition('/')[0]}/{self.name}"
        self._server = server.replace("+psycopg", "", 1)
        self.run(f"CREATE DATABASE {self.name}")

    def run(self, statement: str) -> None:
        with psycopg.connect(self._server, autocommit=True) as connection:
            connection.execute(statement)

    def shut(self) -> None:
        self.run(f"ALTER DATABASE {self.name} ALLOW_CONNECTIONS false")
        self.end_sessions()

    def open(self) -> None:
        self.run(f"ALTER DATABASE {self.name} ALLOW_CONNECTIONS true")

    def end_sessions(self) -> None:
        self.run(f"SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE datname = '{self.name}'")


@pytest.fixture
def database() -> Iterator[Database]:
    server = os.environ.get(SERVER)
    if not server:
        pytest.skip(f"{SERVER} names no PostgreSQL server")
    made = Database(server)
    yield made
    made.run(f"DROP DATABASE {made.name} WITH (FORCE)")


def set_up(root: Path, database: Database) -> Callable[[], Runtime]:
    """Begins a log in the database; gives what opens it."""
    root.mkdir()
    settings = Settings(log_url=database.url)
    initialize(root, settings=settings, with_model=False)
    return lambda: Runtime(root, actor="test", settings=settings)


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_worker_waits_for_its_server_and_goes_on(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    opens = set_up(tmp_path / "agent", database)
    runtime, other = opens(), opens()
    told: list[str] = []
    worker = Worker(runtime, lambda record: told.append(type(record.event).__name__))
    thread = threading.Thread(target=worker.run_forever)
    with caplog.at_level(logging.WARNING, logger="instar.engine"):
        thread.start()
        other.log.append(feedback(1))
        until(lambda: "CycleStarted" in told)
        database.shut()
        until(lambda: "Trying again for up to" in caplog.text)
        with pytest.raises(LogUnavailable):
            other.log.append(feedback(2))
        assert thread.is_alive()
        told.clear()
        database.open()
        other.log.append(feedback(3))
        until(lambda: "CycleStarted" in told)
        until(lambda: "can be used again; the work goes on" in caplog.text)
    worker.stop()
    thread.join(60)
    assert not thread.is_alive()
    for opened in (runtime, other):
        opened.close()


def test_worker_waits_for_its_server_to_take_writes_and_goes_on(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_worker, "RETRY_S", 0.02)
    opens = set_up(tmp_path / "agent", database)
    other = opens()
    other.log.append(feedback(1))
    database.run(f"ALTER DATABASE {database.name} SET default_transaction_read_only = on")
    other.close()
    runtime = opens()  # whose session can read alone
    told: list[str] = []
    worker = Worker(runtime, lambda record: told.append(type(record.event).__name__))
    monkeypatch.setattr(worker, "_prepare", lambda: None)  # what it would record first
    thread = threading.Thread(target=worker.run_forever)
    with caplog.at_level(logging.WARNING, logger="instar.engine"):
        thread.start()
        until(lambda: "read-only transaction" in caplog.text)
        time.sleep(1)
        assert thread.is_alive()
        assert caplog.text.count("Trying again for up to") == 1
        database.run(f"ALTER DATABASE {database.name} RESET default_transaction_read_only")
        database.end_sessions()
        until(lambda: "CycleStarted" in told)
        until(lambda: "can be used again; the work goes on" in caplog.text)
    worker.stop()
    thread.join(60)
    assert not thread.is_alive()
    runtime.close()


def test_worker_that_waited_in_vain_for_writes_says_so(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_worker, "RETRY_S", 0.02)
    monkeypatch.setattr(engine_worker, "PATIENCE_S", 0.3)
    opens = set_up(tmp_path / "agent", database)
    database.run(f"ALTER DATABASE {database.name} SET default_transaction_read_only = on")
    runtime = opens()
    (tmp_path / "agent" / "new.py").write_text("x = 1\n")
    began = time.monotonic()
    with pytest.raises(LogUnavailable, match="read-only transaction"):
        Worker(runtime).run_forever()
    # What could not be recorded is tried again soon, and not when all files are looked at anew.
    assert time.monotonic() - began < runtime.settings.watch.rescan_s
    runtime.close()


def test_follower_waits_for_its_server_and_misses_nothing(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    opens = set_up(tmp_path / "agent", database)
    reading, writing = opens(), opens()
    follower = reading.log.follow("reader")
    seen: list[int] = []

    def follow() -> None:
        for record in follower:
            seen.append(record.seq)
            follower.acknowledge(record)

    thread = threading.Thread(target=follow)
    with caplog.at_level(logging.WARNING, logger="instar.store"):
        thread.start()
        writing.log.append(feedback(1))
        until(lambda: writing.reader.head() in seen)
        database.shut()
        until(lambda: "Trying again for up to" in caplog.text)
        assert thread.is_alive()
        database.open()
        last = writing.log.append(feedback(2)).seq
        until(lambda: last in seen)
        assert "can be read again" in caplog.text
    follower.stop()
    thread.join(60)
    assert not thread.is_alive()
    assert seen == list(range(1, last + 1))
    assert list(writing.log.follow("reader").ready()) == []
    reading.close()
    writing.close()


def test_follower_that_waited_in_vain_says_so(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = set_up(tmp_path / "agent", database)()
    follower = runtime.log.follow(start=Seq(runtime.reader.head() + 1))
    monkeypatch.setattr(store_follow, "PATIENCE_S", 0.2)
    database.shut()
    with pytest.raises(LogUnavailable):
        follower.wait()
    database.open()
    runtime.close()
