"""The lock between threads and processes is given back, wherever an exception of a signal's handler falls."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from instar.fsm.errors import LogUnavailable
from instar.store import appending, asking, combining, gates, lock, slots, sqlite_journal
from instar.store.lock import FileLock
from instar.store.log import EventLog, Pending
from tests.store.interruptions import interrupted_at
from tests.store.logs import feedback, fresh_log

pytestmark = pytest.mark.skipif(
    sys.implementation.name != "cpython" or not hasattr(fcntl, "F_OFD_SETLK"),
    reason="where a handler runs is a matter of CPython; a system without locks on open files",
)

_CONTEXTLIB = str(contextlib.__file__)
_FILES = {str(module.__file__) for module in (appending, asking, combining, gates, lock, slots, sqlite_journal)}
_PLACES_MAX = 1500


class Cut(Exception):
    """What a signal's handler raises."""


def is_free(path: Path) -> bool:
    """Says whether another process could lock a file, and pass every gate in it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for gate in range(1, gates._GATES + 1):
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, gates._flock(fcntl.F_RDLCK, gates._FIRST + gate))
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


def in_another_thread(work: Callable[[], object]) -> bool:
    """Says whether work ends in another thread."""
    other = threading.Thread(target=work, daemon=True)
    other.start()
    other.join(20)
    return not other.is_alive()


@pytest.mark.parametrize("error", [KeyboardInterrupt, Cut, TimeoutError])
@pytest.mark.parametrize("level", [0, 1])
@pytest.mark.parametrize("files", [{str(lock.__file__)}, {str(lock.__file__), _CONTEXTLIB}])
def test_lock_is_back_where_it_was_wherever_an_interruption_falls(
    tmp_path: Path, level: int, error: type[BaseException], files: set[str]
) -> None:
    path = tmp_path / "a.lock"
    held = FileLock(path)

    def work() -> None:
        with held.held(), held.held():
            pass

    for nth in range(1, _PLACES_MAX):
        if level:
            held.acquire()
        again = interrupted_at(nth, files, work, error)
        assert held.level() == level, nth
        assert is_free(path) == (not level)
        if level:
            held.release()
        assert is_free(path)

        def use() -> None:
            with held.held():
                pass

        assert in_another_thread(use), nth
        if not again:
            break
    assert 3 < nth < _PLACES_MAX


def test_lock_that_a_handler_asks_for_while_its_thread_takes_it_is_refused(tmp_path: Path) -> None:
    held = FileLock(tmp_path / "a.lock")
    with pytest.raises(LogUnavailable, match="signal handler"):
        held.acquire(granted=held.acquire)
    assert is_free(held.path)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[EventLog, EventLog]]:
    """Gives a log that was opened twice, to the kernel as by two processes."""
    one = fresh_log(tmp_path)
    two = EventLog(one.path, actor="b")
    yield one, two
    one.close()
    two.close()


def alone(log: EventLog) -> None:
    """Leaves the log to itself for so long that it expects nobody else."""
    journal = log._journal
    assert journal.asking
    journal.asking._expected = 0


def expecting(log: EventLog) -> None:
    """Has the log expect others."""
    assert log._journal.asking
    log._journal.asking.expect_others()


def led(log: EventLog) -> None:
    """Has the log ask before it takes the lock, as after a commit with events of others in it."""
    assert log._journal.asking
    log._journal.asking._led = True


def append_two(log: EventLog) -> None:
    log.transact(lambda _: [Pending(feedback(1)), Pending(feedback(2))])


def move_a_cursor(log: EventLog) -> None:
    log._set_cursor("c", log.reader.get(log.state.head))


@pytest.mark.parametrize(
    ("error", "step"),
    [
        (KeyboardInterrupt, 1),
        (Cut, 4),
        (TimeoutError, 4),
        *(pytest.param(error, 1, marks=pytest.mark.torture) for error in (Cut, TimeoutError)),
    ],
)
@pytest.mark.parametrize(
    ("before", "work", "appends"),
    [
        (alone, lambda log: log.append(feedback(1)), 1),
        (expecting, lambda log: log.append(feedback(1)), 1),
        (led, lambda log: log.append(feedback(1)), 1),
        (alone, append_two, 2),
        (expecting, append_two, 2),
        (expecting, move_a_cursor, 0),
    ],
    ids=["alone", "expecting", "led", "transact", "transact-expecting", "cursor"],
)
def test_log_goes_on_wherever_an_append_is_interrupted(
    pair: tuple[EventLog, EventLog],
    before: Callable[[EventLog], None],
    work: Callable[[EventLog], object],
    appends: int,
    error: type[BaseException],
    step: int,
) -> None:
    one, two = pair
    path = one.path.with_name("log.lock")
    for nth in range(1, _PLACES_MAX, step):
        head = two.state.head
        before(one)
        again = interrupted_at(nth, _FILES | {_CONTEXTLIB}, lambda: work(one), error)
        assert is_free(path), nth
        recorded = two.state.head - head
        assert recorded in {0, appends}, nth
        assert in_another_thread(lambda: one.append(feedback(3))), nth
        assert two.append(feedback(4)).seq == head + recorded + 2, nth
        if not again:
            break
    assert 3 < nth < _PLACES_MAX
    assert recorded == appends
