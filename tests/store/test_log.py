"""What every log keeps, in a SQLite file and in PostgreSQL: durable order, one chain, refusals that leave nothing."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
from collections.abc import Callable
from itertools import islice

import msgspec
import pytest

from instar.fsm.errors import ConfigError, IllegalTransition, PositionConflict
from instar.fsm.events import CycleStarted, DiffComputed, FeedbackReceived, SnapshotTaken, Span
from instar.fsm.record import Recorded
from instar.fsm.words import Seq, digest_of
from instar.store.appending import SNAPSHOT_BYTES, SNAPSHOT_EVERY
from instar.store.blobs import FILE_BYTES_MIN
from instar.store.log import EventLog, Pending
from instar.store.reader import LogReader, Row
from tests.store.logs import INIT, feedback


def test_append_gives_gapless_positions_and_a_chain(log: EventLog) -> None:
    records = [log.append(feedback(n)) for n in range(5)]
    assert [record.seq for record in records] == [2, 3, 4, 5, 6]
    read = list(log.reader.read())
    assert read[1:] == records
    for before, after in itertools.pairwise(read):
        assert after.prev_hash == before.hash


def test_reopened_log_has_the_same_state(log: EventLog, reopen: Callable[[EventLog], EventLog]) -> None:
    for n in range(300):
        log.append(feedback(n))
    state = log.state
    log.close()
    again = reopen(log)
    assert again.state == state
    assert again.reader.saved_digests()
    again.close()


def test_state_at_every_position_is_the_fold_from_the_start(log: EventLog) -> None:
    log.transact(lambda _: [Pending(feedback(n)) for n in range(600)])
    for seq in (1, 2, 255, 256, 257, 512, 601):
        assert log.reader.state_at(seq).head == seq
        assert log.reader.state_at(seq).waiting_count == seq - 1


def test_refused_event_leaves_nothing_behind(log: EventLog) -> None:
    with pytest.raises(IllegalTransition):
        log.transact(lambda _: [Pending(feedback(1)), Pending(DiffComputed(items=()))])
    assert log.reader.head() == 1
    assert log.append(feedback(1)).seq == 2


def test_key_is_recorded_once(log: EventLog) -> None:
    first = log.append(feedback(1), key="once")
    assert log.append(feedback(1), key="once") == first
    assert log.reader.head() == 2
    assert log.transact(lambda _: [Pending(feedback(1), key="once")]) == [first]
    assert log.reader.head() == 2


def test_expected_position_is_checked(log: EventLog) -> None:
    log.append(feedback(1), expect=Seq(1))
    with pytest.raises(PositionConflict, match="not at 1"):
        log.append(feedback(2), expect=Seq(1))


def test_cause_by_distance_names_the_event_before(log: EventLog) -> None:
    records = log.transact(lambda _: [Pending(feedback(1)), Pending(feedback(2), after=1)])
    assert records[1].cause == records[0].seq


def test_threads_append_without_loss_or_gap(log: EventLog) -> None:
    def work(name: int) -> None:
        for n in range(25):
            log.append(feedback(n, task_type=f"t{name}"))

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    read = list(log.reader.read(2))
    assert [record.seq for record in read] == list(range(2, 202))
    for name in range(8):
        own = [r.event.input for r in read if getattr(r.event, "task_type", None) == f"t{name}"]  # type: ignore[union-attr]
        assert own == [f"request {n}" for n in range(25)]


_WRITER = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[5:]
from tests.store.logs import feedback
from instar.store.log import EventLog
from instar.store.place import Place
path, url, stream, name = sys.argv[1:5]
log = EventLog(Place(Path(path), url or None, stream))
for n in range(50):
    log.append(feedback(n, task_type=name))
log.close()
"""


def test_processes_append_without_loss_or_gap(log: EventLog) -> None:
    where = [str(log.path), log.place.url or "", log.place.stream]
    writers = [subprocess.Popen([sys.executable, "-c", _WRITER, *where, f"p{n}", *sys.path]) for n in range(4)]
    assert [writer.wait(120) for writer in writers] == [0, 0, 0, 0]
    assert log.state.head == 201
    read = list(log.reader.read(2))
    for n in range(4):
        own = [r.event.input for r in read if getattr(r.event, "task_type", None) == f"p{n}"]  # type: ignore[union-attr]
        assert own == [f"request {k}" for k in range(50)]


def test_small_blob_is_durable_with_its_event_and_large_one_is_a_file(
    log: EventLog, reopen: Callable[[EventLog], EventLog]
) -> None:
    small, large = b"small", bytes(FILE_BYTES_MIN)
    digests = [log.blobs.put(small), log.blobs.put(large)]
    log.append(feedback(1))
    again = reopen(log)
    assert [again.blobs.get(digest) for digest in digests] == [small, large]
    assert [path for path in log.path.with_name("blobs").rglob("*") if path.is_file()]


def test_cycle_and_states_are_recorded_with_the_event(log: EventLog) -> None:
    log.append(feedback(1))
    span = Span(Seq(2), Seq(2))
    started = log.append(CycleStarted(entry="signals", span=span, count=1), cause=Seq(2))
    assert (started.state_before, started.state_after, started.cycle) == ("Idle", "Diffing", 1)
    assert INIT.tree == log.state.tree


def test_key_actor_and_cause_that_a_hash_could_not_tell_are_refused(log: EventLog) -> None:
    with pytest.raises(ConfigError, match="line feed"):
        log.append(feedback(1), key="a\nb")
    with pytest.raises(ConfigError, match="line feed"):
        EventLog(log.place, actor="a\nb")
    for cause in (0, 2, 9):
        with pytest.raises(IllegalTransition, match="earlier event"):
            log.append(feedback(1), cause=Seq(cause))
    assert log.reader.head() == 1


def test_events_at_some_positions_come_in_order_and_those_beyond_the_head_not_at_all(log: EventLog) -> None:
    log.transact(lambda _: [Pending(feedback(number)) for number in range(1200)])
    head = log.reader.head()
    wanted = {3, 2, head, head + 1, *range(10, 1100)}
    assert [record.seq for record in log.reader.at(wanted)] == sorted(wanted - {head + 1})
    assert list(log.reader.at([])) == []


@pytest.mark.parametrize("name", ["100%_sure!.py", "a?b", "größe.py", 'quote".py', "back\\slash"])
def test_events_that_do_not_hold_a_text_are_left_out(log: EventLog, name: str) -> None:
    for each in ("100x_sure!.py", name, "100%xsure!.py"):
        log.append(feedback(1, task_type=each))
    sought = f'"task_type":{msgspec.json.encode(name).decode()}'
    found = [record.event for record in log.reader.read(types=[FeedbackReceived], holding=sought)]
    assert [event.task_type for event in found if isinstance(event, FeedbackReceived)] == [name]
    assert len(list(log.reader.read(types=[FeedbackReceived]))) == 3


def test_states_that_grow_are_saved_more_seldom(log: EventLog) -> None:
    """A state that holds thousands of names, saved at each 256th event, would outgrow the events themselves."""
    names = (f"{n:0100d}" for n in range(6000))
    tree = digest_of(b"tree")
    while batch := [SnapshotTaken(name=name, tree=tree, checkpoint=None, reason="x") for name in islice(names, 250)]:
        log.transact(lambda _, batch=batch: [Pending(one) for one in batch])  # type: ignore[misc]
    saved = [(seq, len(content)) for seq, _, content in log.reader.saved_states()]
    assert saved[0][0] < 2 * SNAPSHOT_EVERY
    assert saved[-1][1] > 4 * SNAPSHOT_BYTES
    assert sum(size for _, size in saved) < 2 * log.reader.head() * SNAPSHOT_BYTES / SNAPSHOT_EVERY
    assert log.reader.head() - saved[-1][0] <= SNAPSHOT_EVERY * (saved[-1][1] // SNAPSHOT_BYTES + 2)
    assert log.reader.state_at() == log.state


def test_states_at_many_positions_are_folded_in_one_pass(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """A collection asks for the state at each kept point; after an upgrade no saved state may be of use."""
    for first in range(0, 900, 300):
        log.transact(lambda _, first=first: [Pending(feedback(first + n)) for n in range(300)])  # type: ignore[misc]
    asked = [1, 700, 650, 256, 2, 650, 901]
    each = [log.reader.state_at(seq) for seq in sorted(set(asked))]
    decoded: list[int] = []
    decode = LogReader.decode

    def counted(reader: LogReader, row: Row) -> Recorded:
        decoded.append(row[0])
        return decode(reader, row)

    monkeypatch.setattr(LogReader, "decode", counted)
    assert list(log.reader.states_at(asked)) == each
    assert len(decoded) == len(set(decoded)) < 900
    with log.upkeep() as journal:
        journal.thin([Seq(seq) for seq, _ in log.reader.saved_digests()])
    decoded.clear()
    assert list(log.reader.states_at(asked)) == each
    assert decoded == list(range(1, 902))
