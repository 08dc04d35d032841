"""A process that is forked off while threads use a log: it opens its own, and nothing of its parent's."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from instar.fsm.errors import LogUnavailable
from instar.store.lock import FileLock
from instar.store.log import EventLog, Pending
from instar.store.reader import LogReader
from instar.store.shared_locks import _guard
from instar.store.sqlite_source import SqliteSource
from tests.store.logs import feedback, fresh_log

LONG_S = 0.3


def in_child(do: Callable[[], object]) -> int:
    """Does something in a process that is forked off now; gives its exit code, or the signal that ended it."""
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(20)  # where it hangs
        code = 1
        try:
            do()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def forked_amid(busy: Callable[[threading.Event], object], do: Callable[[], object]) -> int:
    """Does something in a process that is forked off while another thread is busy."""
    begun = threading.Event()
    thread = threading.Thread(target=busy, args=(begun,))
    thread.start()
    assert begun.wait(20)
    code = in_child(do)
    thread.join(20)
    return code


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    return fresh_log(tmp_path)


def test_child_that_was_forked_amid_an_append_appends_by_itself(log: EventLog) -> None:
    def append(begun: threading.Event) -> None:
        def decide(_: object) -> Sequence[Pending]:
            begun.set()
            time.sleep(LONG_S)
            return [Pending(feedback(1)), Pending(feedback(2))]

        log.transact(decide)

    def append_too() -> None:
        own = EventLog(log.path)
        own.append(feedback(3))
        own.close()

    assert forked_amid(append, append_too) == 0
    log.append(feedback(4))
    assert [row[0] for row in LogReader(log.path).rows()] == [1, 2, 3, 4, 5]
    log.close()


def test_child_that_was_forked_amid_a_reading_is_refused_and_ends(log: EventLog) -> None:
    def read(begun: threading.Event) -> None:
        begun.set()
        log.reader.query(
            "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 200000) SELECT max(x) FROM n"
        )

    def ask() -> None:
        for asked in (log.reader.head, log.reader.changed_token, lambda: log.append(feedback(9))):
            with pytest.raises(LogUnavailable, match="before this process was forked off"):
                asked()
        log.close()
        assert LogReader(log.path).head() == 1

    assert forked_amid(read, ask) == 0
    log.append(feedback(1))
    log.close()


def test_child_of_a_process_that_died_holds_no_lock_of_it(tmp_path: Path) -> None:
    path = tmp_path / "log.lock"
    ends, end = os.pipe()
    holder = os.fork()
    if holder == 0:
        lock = FileLock(path)
        lock.acquire()
        if os.fork() == 0:
            os.close(end)
            os.read(ends, 1)
        os._exit(0)
    os.waitpid(holder, 0)
    try:
        assert FileLock(path).acquire(blocking=False)
    finally:
        os.close(end)
        os.close(ends)


def test_child_that_was_forked_while_a_thread_held_the_log_for_long_is_refused_and_ends(
    log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("instar.store.forked._PATIENCE_S", 0.1)
    told = threading.Event()

    def hold(begun: threading.Event) -> None:
        with log.upkeep():
            begun.set()
            told.wait(20)

    def refused() -> None:
        with pytest.raises(LogUnavailable):
            log.append(feedback(9))
        log.close()

    ended = threading.Timer(1, told.set)
    ended.start()
    assert forked_amid(hold, refused) == 0
    ended.join()
    log.append(feedback(1))
    log.close()


def test_signal_handler_that_forks_while_its_thread_reads_or_opens_a_log_waits_for_nobody(
    log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("instar.store.forked._PATIENCE_S", 3600.0)
    codes: list[int] = []

    def late(*_: object) -> None:
        codes.append(-1)  # what is raised while a process is forked off is dropped
        raise AssertionError("it waits for its own thread")

    before = [
        signal.signal(signal.SIGUSR1, lambda *_: codes.append(in_child(lambda: None))),
        signal.signal(signal.SIGALRM, late),
    ]
    source = SqliteSource(log.path)
    signal.alarm(20)
    try:
        assert source.pause(1)  # as a reading has it
        signal.raise_signal(signal.SIGUSR1)
        source.resume()
        with _guard:
            signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.alarm(0)
        for number, old in zip((signal.SIGUSR1, signal.SIGALRM), before, strict=True):
            signal.signal(number, old)
    assert codes == [0, 0]
    source.close()
    log.append(feedback(1))
    log.close()
