"""Processes that wait for the log have whoever holds it record their events, each with its own outcome.

Two logs of one file in one process are to the kernel as two processes: their files are open apart.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from instar.fsm.errors import IllegalTransition, LogUnavailable
from instar.fsm.events import AnyEvent, DiffComputed
from instar.fsm.record import Recorded
from instar.store import appending
from instar.store import slots as layout
from instar.store.asking import Asking
from instar.store.lock import FileLock
from instar.store.log import EventLog, Pending, create_log
from instar.store.ports import Batch
from instar.store.slots import LOST, Slots
from instar.store.sqlite_journal import SqliteJournal
from tests.engine.agents import PROJECT
from tests.store.logs import INIT, feedback, fresh_log
from tests.store.test_erasure import erasure

pytestmark = pytest.mark.skipif(not hasattr(fcntl, "F_OFD_SETLK"), reason="a system without locks on open files")

Outcome = Recorded | Exception


class Clock:
    """Tells one time."""

    def __init__(self, at_us: int) -> None:
        self.at_us = at_us

    def now_us(self) -> int:
        return self.at_us


class Crowd:
    """Several logs of one file that append at the same moment, while somebody else holds the lock.

    Args:
        path: the log.
        names: whom to open it for.
    """

    def __init__(self, path: Path, names: str = "abc") -> None:
        self.path = path
        self.logs = {name: EventLog(path, actor=name) for name in names}
        self._lock = FileLock(path.with_name("log.lock"))
        self._slots = Slots(self._lock)
        for _ in range(2):  # by then each knows of the others
            for log in self.logs.values():
                log.append(feedback(0))

    @contextmanager
    def waiting(self, **events: AnyEvent) -> Iterator[dict[str, Outcome]]:
        """Has logs ask for events; inside the block all of them wait, after it each has its outcome."""
        outcomes: dict[str, Outcome] = {}

        def append(name: str, event: AnyEvent) -> None:
            try:
                outcomes[name] = self.logs[name].append(event)
            except Exception as error:
                outcomes[name] = error

        threads = [threading.Thread(target=append, args=pair) for pair in events.items()]
        with self._lock.held():
            before = len(self._slots.asked(set()))
            for count, thread in enumerate(threads, 1):
                thread.start()
                self.asked_by(before + count)
            yield outcomes
        for thread in threads:
            thread.join(30)
        assert not any(thread.is_alive() for thread in threads)

    def asked_by(self, count: int) -> None:
        """Waits until so many ask."""
        deadline = time.monotonic() + 30
        while len(self._slots.asked(set())) < count:
            assert time.monotonic() < deadline
            time.sleep(0.001)

    def recorded(self) -> list[tuple[str, str]]:
        """Who recorded which input, after what the crowd began with."""
        reader = self.logs["a"].reader
        rows = [(one.actor, getattr(one.event, "input", "")) for one in reader.read(2)]
        return rows[2 * len(self.logs) :]

    def close(self) -> None:
        for log in self.logs.values():
            log.close()
        self._lock.close()


@pytest.fixture(autouse=True)
def _busy_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that ask one after the other may take long: what they ask for is served all the same."""
    monkeypatch.setattr(layout, "_FRESH_NS", 60 * 10**9)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    fresh_log(tmp_path).close()
    return tmp_path / "log.db"


@pytest.fixture
def crowd(path: Path) -> Iterator[Crowd]:
    opened = Crowd(path)
    yield opened
    opened.close()


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many events each commit held."""
    found: list[int] = []
    write = SqliteJournal.write

    def counted(journal: SqliteJournal, batch: Batch) -> None:
        found.append(len(batch.events))
        write(journal, batch)

    monkeypatch.setattr(SqliteJournal, "write", counted)
    return found


def inputs(*names: str) -> list[tuple[str, str]]:
    return sorted((name, f"request {ord(name)}") for name in names)


ALL = {name: feedback(ord(name)) for name in "abc"}


def test_those_who_wait_share_one_commit(crowd: Crowd, sizes: list[int]) -> None:
    with crowd.waiting(**ALL) as outcomes:
        sizes.clear()
    assert sizes == [3]
    stored = {one.seq: one for one in crowd.logs["a"].reader.read(8)}
    assert sorted(stored) == [8, 9, 10]
    for name, outcome in outcomes.items():
        assert isinstance(outcome, Recorded)
        assert outcome == stored[outcome.seq]
        assert outcome.actor == name
    assert {log.append(feedback(9)).seq for log in crowd.logs.values()} == {11, 12, 13}


@pytest.mark.parametrize("head", [62, 127, 254])
def test_digest_and_saved_state_are_due_as_ever(crowd: Crowd, head: int) -> None:
    crowd.logs["a"].transact(lambda state: [Pending(feedback(n)) for n in range(head - state.head)])
    with crowd.waiting(**ALL) as outcomes:
        pass
    assert all(isinstance(one, Recorded) for one in outcomes.values()), outcomes
    reader = crowd.logs["a"].reader
    assert sorted(outcomes.values(), key=lambda one: one.seq) == list(reader.read(head + 1))  # type: ignore[union-attr]
    digests = [one.seq for one in reader.read() if one.state_digest]
    assert digests == list(range(64, head + 4, 64))
    assert len(reader.saved_states()) == (head + 3) // 256
    assert crowd.logs["b"].state == reader.state_at()
    assert crowd.logs["b"].append(feedback(1)).seq == head + 4


def test_time_of_an_event_is_when_it_was_asked_for(path: Path) -> None:
    crowd = Crowd(path)
    late = crowd.logs["a"].reader.get(7).recorded_at_us + 10**9
    crowd.logs["b"]._appender._now_us = Clock(late).now_us
    with crowd.waiting(a=ALL["a"], b=ALL["b"]) as outcomes:
        pass
    assert isinstance(outcomes["b"], Recorded)
    assert outcomes["b"].recorded_at_us == late
    crowd.close()


def test_refused_event_is_refused_in_its_own_process(crowd: Crowd, sizes: list[int]) -> None:
    with crowd.waiting(a=ALL["a"], b=DiffComputed(items=()), c=ALL["c"]) as outcomes:
        sizes.clear()
    assert isinstance(outcomes["b"], IllegalTransition)
    assert sizes[0] == 2
    assert sorted(crowd.recorded()) == inputs("a", "c")


def test_first_in_the_queue_that_is_refused_records_the_others(crowd: Crowd, sizes: list[int]) -> None:
    with crowd.waiting(a=DiffComputed(items=()), b=ALL["b"], c=ALL["c"]) as outcomes:
        sizes.clear()
    assert isinstance(outcomes["a"], IllegalTransition)
    assert sizes[0] == 2
    assert sorted(crowd.recorded()) == inputs("b", "c")


def test_commit_that_fails_with_others_is_tried_without(crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    write = SqliteJournal.write

    def full(journal: SqliteJournal, batch: Batch) -> None:
        if len(batch.events) > 1:
            raise LogUnavailable("the disk is full")
        write(journal, batch)

    with crowd.waiting(**ALL) as outcomes:
        monkeypatch.setattr(SqliteJournal, "write", full)
    assert all(isinstance(one, Recorded) for one in outcomes.values()), outcomes
    assert sorted(crowd.recorded()) == inputs("a", "b", "c")


def test_slots_that_cannot_be_written_make_each_record_its_own(crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with crowd.waiting(**ALL) as outcomes:
        monkeypatch.setattr(Slots, "take", full)
    assert all(isinstance(one, Recorded) for one in outcomes.values()), outcomes
    assert sorted(crowd.recorded()) == inputs("a", "b", "c")


def cut(lock: Path) -> None:
    os.truncate(lock, 0)


def cut_short(lock: Path) -> None:
    os.truncate(lock, layout._OUTCOMES + 100)


def garbage(lock: Path) -> None:
    with lock.open("r+b") as file:
        file.write(os.urandom(layout._SIZE))


def garbled_contents(lock: Path) -> None:
    with lock.open("r+b") as file:
        file.seek(layout._CONTENTS)
        file.write(os.urandom(layout._SIZE - layout._CONTENTS))


def garbled_outcomes(lock: Path) -> None:
    with lock.open("r+b") as file:
        file.seek(layout._OUTCOMES)
        file.write(os.urandom(layout._HEAD_SIZE - layout._OUTCOMES))


def of_another_version(lock: Path) -> None:
    with lock.open("r+b") as file:
        file.write(b"instar slots 2\n")


def removed(lock: Path) -> None:
    lock.unlink()


def left(_: Path) -> None:
    pass


DAMAGES = [cut, cut_short, garbage, garbled_contents, garbled_outcomes, of_another_version, removed]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_slots_lose_nothing_and_record_nothing_twice(crowd: Crowd, damage: Callable[[Path], None]) -> None:
    lock = crowd.path.with_name("log.lock")
    with crowd.waiting(**ALL) as outcomes:
        damage(lock)
    assert all(isinstance(one, Recorded) for one in outcomes.values()), outcomes
    assert sorted(crowd.recorded()) == inputs("a", "b", "c")


@pytest.mark.parametrize("damage", [*DAMAGES, left])
def test_lock_file_of_any_content_will_do(path: Path, damage: Callable[[Path], None]) -> None:
    lock = path.with_name("log.lock")
    damage(lock)
    logs = [EventLog(path, actor=name) for name in "ab"]
    threads = [threading.Thread(target=lambda log=log: [log.append(feedback(n)) for n in range(40)]) for log in logs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    recorded = [(one.actor, getattr(one.event, "input", "")) for one in logs[0].reader.read(2)]
    for log in logs:
        own = [text for actor, text in recorded if actor == log.actor]
        assert own == [f"request {n}" for n in range(40)]
        log.close()


def test_what_somebody_else_wrote_in_the_lock_file_is_left(path: Path) -> None:
    lock = path.with_name("log.lock")
    lock.write_text("mine")
    EventLog(path).close()
    assert lock.read_text() == "mine"


def test_event_that_was_served_in_a_lock_file_now_removed_is_not_recorded_again(
    crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = SqliteJournal.write

    def removing(journal: SqliteJournal, batch: Batch) -> None:
        crowd.path.with_name("log.lock").unlink(missing_ok=True)
        write(journal, batch)

    with crowd.waiting(**ALL) as outcomes:
        monkeypatch.setattr(SqliteJournal, "write", removing)
    assert all(isinstance(one, Recorded) for one in outcomes.values()), outcomes
    assert sorted(crowd.recorded()) == inputs("a", "b", "c")


def test_event_in_doubt_is_neither_lost_nor_recorded_twice(crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    """The slots are damaged after the event was recorded, before its process has seen that."""
    with crowd.waiting(a=ALL["a"], b=ALL["b"]) as outcomes:
        monkeypatch.setattr(crowd.logs["b"]._journal.asking._slots, "look", lambda: LOST)  # type: ignore[union-attr]
    assert sorted(crowd.recorded()) == inputs("a", "b")
    assert isinstance(outcomes["b"], LogUnavailable) or outcomes["b"].seq == 8  # type: ignore[union-attr]
    assert isinstance(outcomes["a"], Recorded)


def test_each_append_in_doubt_raises_an_error_of_its_own(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, same = EventLog(path, actor="a"), EventLog(path, actor="a")

    def doubtful(asking: Asking, _request: object) -> layout.Answer:
        same.append(feedback(1), expect=same.state.head)
        asking._lock.acquire()  # whoever was not served holds the log
        return LOST

    monkeypatch.setattr(Asking, "alone", False)
    monkeypatch.setattr(Asking, "ask", doubtful)
    raised = []
    for _ in range(3):
        with pytest.raises(LogUnavailable, match="cut off before its end was seen") as told:
            log.append(feedback(1))
        raised.append(told.value)
    assert len({id(error) for error in raised}) == 3
    depths = [len(list(traceback.walk_tb(error.__traceback__))) for error in raised]
    assert depths == depths[:1] * 3
    shared = [one for one in vars(appending).values() if isinstance(one, Exception)]
    assert [one.__traceback__ for one in shared] == [None] * len(shared)


def test_interrupted_process_takes_its_request_back(crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(asking: Asking) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Asking, "_wait", interrupted)
    with crowd._lock.held():
        with pytest.raises(KeyboardInterrupt):
            crowd.logs["b"].append(ALL["b"])
        assert crowd._slots.asked(set()) == []
    monkeypatch.undo()
    assert crowd.logs["a"].append(ALL["a"]).seq == 8
    assert sorted(crowd.recorded()) == inputs("a")


def test_process_without_a_slot_records_its_own(crowd: Crowd) -> None:
    taken = [Slots(FileLock(crowd.path.with_name("log.lock"))) for _ in range(layout.COUNT)]
    for one in taken:
        with one._lock.held():
            pass
        one.ask(b"")
    assert all(one._mine >= 0 for one in taken)
    slots = crowd.logs["a"]._journal.asking._slots  # type: ignore[union-attr]
    with crowd._lock.held():
        thread = threading.Thread(target=lambda: crowd.logs["a"].append(ALL["a"]))
        thread.start()
        while slots._opened == 0:
            time.sleep(0.001)
    thread.join(30)
    assert slots._mine < 0
    assert crowd.recorded() == inputs("a")
    for one in taken:
        one._lock.close()


_DIES = """
import sys
from pathlib import Path
from instar.store.log import EventLog
from tests.store.logs import feedback
log = EventLog(Path(sys.argv[1]), actor="dead")
print("open", flush=True)
for number in (1, 2):
    sys.stdin.readline()
    log.append(feedback(number))
    print("appended", flush=True)
"""


def test_request_of_a_dead_process_is_not_served(crowd: Crowd) -> None:
    environ = {**os.environ, "PYTHONPATH": str(PROJECT), "INSTAR_FAILPOINTS": "log.asked=kill"}
    command = [sys.executable, "-c", _DIES, str(crowd.path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=PROJECT, env=environ, stdin=pipe, stdout=pipe, text=True) as child:
        assert child.stdout
        assert child.stdin
        child.stdout.readline()
        crowd.logs["a"].append(ALL["a"])  # so that it learns of others with its first append
        child.stdin.write("\n")
        child.stdin.flush()
        assert child.stdout.readline() == "appended\n"
        with crowd._lock.held():
            child.stdin.write("\n")
            child.stdin.flush()
            assert child.wait(30) == -9
    crowd.logs["b"].append(ALL["b"])
    assert ("dead", "request 2") not in crowd.recorded()
    crowd.logs["c"].append(ALL["c"])


def test_first_event_of_a_log_can_be_raced_for(tmp_path: Path) -> None:
    create_log(tmp_path / "log.db")
    logs = [EventLog(tmp_path / "log.db", actor=name) for name in "ab"]
    outcomes: list[object] = []

    def begin(log: EventLog) -> None:
        try:
            outcomes.append(log.append(INIT))
        except IllegalTransition as error:
            outcomes.append(error)

    threads = [threading.Thread(target=begin, args=(log,)) for log in logs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(type(one).__name__ for one in outcomes) == ["IllegalTransition", "Recorded"]
    for log in logs:
        log.close()


def test_erasure_leaves_nothing_of_what_was_asked_for_in_the_slots(crowd: Crowd) -> None:
    with crowd.waiting(a=feedback(1, input="Ada Lovelace"), b=feedback(2, input="Grace Hopper")):
        pass
    slots = crowd.path.with_name("log.lock")
    assert b"Ada Lovelace" in slots.read_bytes()
    log = crowd.logs["c"]
    (seq,) = [one.seq for one in log.reader.read(2) if getattr(one.event, "input", "") == "Ada Lovelace"]
    log.erase([erasure(log, seq)])
    assert b"Ada Lovelace" not in slots.read_bytes()
    with crowd.waiting(a=feedback(3, input="x"), b=feedback(4, input="y")) as outcomes:
        pass
    assert all(isinstance(outcome, Recorded) for outcome in outcomes.values())
