"""What a data set needs of a log is little, read once, and never more than the log still says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from instar.engine.dataset import changed_units
from instar.engine.dataset import past as module
from instar.engine.dataset.heard import Heard
from instar.engine.dataset.past import Past, PastShelf
from instar.engine.differences.units import Unit, units
from instar.engine.generate_dataset import generate
from instar.engine.keeping.erase import erase, plan_erasure
from instar.engine.runtime import Runtime
from instar.fsm.events import FeedbackReceived
from instar.fsm.policy import Policy, RewardPolicy
from instar.fsm.record import Recorded
from instar.fsm.words import Seq, digest_of
from instar.store.reader import LogReader
from tests.engine.agents import code_only
from tests.engine.test_generate_dataset import (
    ACCEPTED,
    APPLIED,
    NONE_HELD_OUT,
    change,
    embedded,
    past_of,
    records,
    told,
)
from tests.store.memory_blobs import MemoryBlobs

TEXTS = st.sampled_from(["open a file", "Open  a FILE", "join paths", "token=abcdef123456", "", " "])
ANSWERS = st.sampled_from(["os.open", "OS.Open", "os.path.join", "", " "])
FEEDBACK = st.builds(
    told,
    TEXTS,
    output=ANSWERS,
    outcome=st.sampled_from(["pass", "pass", "pass", "fail", "skip"]),
    reference=st.none() | st.none() | ANSWERS,
    source=st.sampled_from(["agent", "agent", "user", "ci"]),
    exit_code=st.none() | st.none() | st.sampled_from([0, 1]),
    confidence=st.none() | st.sampled_from([0.2, 0.9]),
    reward=st.none() | st.sampled_from([0.1, 0.9]),
)


class Everything(Heard):
    """Keeps each feedback as it is."""

    def take(self, record: Recorded) -> None:
        if isinstance(record.event, FeedbackReceived):
            self._kept[record.seq] = record.event
        else:
            super().take(record)


@given(st.lists(FEEDBACK, max_size=14), st.sets(st.integers(0, 13), max_size=4))
def test_what_is_not_kept_changes_no_data_set(events: list[FeedbackReceived], poor: set[int]) -> None:
    poorly = [embedded(at + 1, failure="no vector") for at in sorted(poor) if at < len(events)]
    log = records(*events, *poorly)
    past, again = past_of(log, NONE_HELD_OUT)
    whole = Past(NONE_HELD_OUT)
    whole.heard = Everything(NONE_HELD_OUT)
    for one in log:
        whole.take(one)
    little = generate(past, again, MemoryBlobs(), [], NONE_HELD_OUT)
    much = generate(whole, again, MemoryBlobs(), [], NONE_HELD_OUT)
    assert little.to_jsonl() == much.to_jsonl()
    assert little.left_out == much.left_out


def test_passes_that_teach_nothing_are_not_read_again() -> None:
    lone = [told(f"question {number}", outcome="pass", output="answer") for number in range(50)]
    log = records(*lone, told("open a file", outcome="fail", reference="os.open"), told("Open a file", outcome="pass"))
    read: list[Seq] = []
    past, again = past_of(log, NONE_HELD_OUT)

    def counted(seqs: Any) -> Any:
        read.extend(seqs)
        return again(seqs)

    dataset = generate(past, counted, MemoryBlobs(), [], NONE_HELD_OUT)
    assert read == [52]
    assert [(row.input, row.output) for row in dataset.rows] == [("open a file", "os.open")]
    assert past.heard.chars < 50 * 25 + 2000


def test_answer_is_spelt_as_a_lone_pass_told_it_first() -> None:
    """The spelling names the group: it was, and stays, that of the first pass, whether or not that one is a row."""
    lone = told("shut a file", outcome="pass", output="OS.Open", source="user")
    failed_since = told("open a file", outcome="fail", reference="os.open")
    for more in ([], [lone]):
        past, again = past_of(records(lone, failed_since, *more), NONE_HELD_OUT)
        dataset = generate(past, again, MemoryBlobs(), [], NONE_HELD_OUT)
        assert {row.output for row in dataset.rows} == {"OS.Open"}
    past, again = past_of(records(lone, failed_since, embedded(1, failure="no vector")), NONE_HELD_OUT)
    dataset = generate(past, again, MemoryBlobs(), [], NONE_HELD_OUT)
    assert {row.output for row in dataset.rows} == {"os.open"}  # a pass that has no vector spells nothing


def test_passes_of_one_input_that_somebody_else_checked_are_rows() -> None:
    twice = [told("open a file", outcome="pass", output="os.open", source=source) for source in ("user", "agent")]
    once = [told("join paths", outcome="pass", output="os.path.join", source="user")]
    past, again = past_of(records(*twice, *once), NONE_HELD_OUT)
    dataset = generate(past, again, MemoryBlobs(), [], NONE_HELD_OUT)
    assert [(row.input, row.output) for row in dataset.rows] == [("open a file", "os.open")]


def test_versions_are_compared_once_and_taught_as_long_as_they_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    blobs, parsed = MemoryBlobs(), list[str]()

    def counted(source: str) -> dict[str, Unit]:
        parsed.append(source)
        return units(source)

    monkeypatch.setattr(changed_units, "units", counted)
    one, two, three = (f"def f(a):\n    return a + {number}\n".encode() for number in range(3))
    log = records(ACCEPTED, APPLIED, (change(blobs, one, two), 2), ACCEPTED, APPLIED, (change(blobs, two, three), 5))
    past, again = past_of(log, NONE_HELD_OUT)
    first = generate(past, again, blobs, [], NONE_HELD_OUT)
    assert [row.output[-1] for row in first.rows] == ["1", "2"]
    assert len(parsed) == 3  # the newer version of the first pair is the older one of the second
    assert generate(past, again, blobs, [], NONE_HELD_OUT).to_jsonl() == first.to_jsonl()
    assert len(parsed) == 3
    assert past.compared.chars > 600
    blobs.contents.pop(digest_of(one))
    later = generate(past, again, blobs, [], NONE_HELD_OUT)
    assert [row.output[-1] for row in later.rows] == ["2"]
    assert later.left_out["version lost"] == 1


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    found = code_only(tmp_path)
    yield found
    found.close()


class Counted:
    """A log that counts the events which were decoded."""

    def __init__(self, reader: LogReader) -> None:
        self._reader, self.count = reader, 0

    def read(self, first: int, last: int, types: Sequence[type]) -> Iterator[Recorded]:
        for record in self._reader.read(first, last, types):
            self.count += 1
            yield record

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)


def rows(runtime: Runtime, shelf: PastShelf, policy: Policy = NONE_HELD_OUT) -> tuple[list[str], int]:
    """Gives the inputs of a data set, and how many events were read for it."""
    counted: Any = Counted(runtime.reader)
    past = shelf.up_to(runtime.reader.head(), counted, policy)
    dataset = generate(past, runtime.reader.at, runtime.blobs, [], policy)
    return [row.input for row in dataset.rows], counted.count


def failed(number: int) -> FeedbackReceived:
    return told(f"question {number}", outcome="fail", reference=f"answer {number}")


def test_only_what_is_new_is_read(runtime: Runtime) -> None:
    shelf = PastShelf()
    for number in range(3):
        runtime.log.append(failed(number))
    assert rows(runtime, shelf) == (["question 0", "question 1", "question 2"], 3)
    assert rows(runtime, shelf)[1] == 0
    runtime.log.append(failed(3))
    assert rows(runtime, shelf) == (["question 0", "question 1", "question 2", "question 3"], 1)


def test_other_thresholds_and_earlier_ends_are_read_anew(runtime: Runtime) -> None:
    shelf = PastShelf()
    runtime.log.append(failed(0))
    earlier = runtime.reader.head()
    runtime.log.append(told("question 1", outcome="pass", reward=0.6, reference="answer 1"))
    assert rows(runtime, shelf)[1] == 2
    strict = replace(NONE_HELD_OUT, reward=RewardPolicy(threshold=0.9))
    assert rows(runtime, shelf, strict)[1] == 2
    counted: Any = Counted(runtime.reader)
    past = shelf.up_to(earlier, counted, strict)
    assert (past.seq, counted.count) == (earlier, 1)


def test_what_was_erased_since_is_in_no_later_data_set(runtime: Runtime) -> None:
    shelf = PastShelf()
    for number in range(2):
        runtime.log.append(failed(number))
    assert "question 1" in rows(runtime, shelf)[0]
    erase(runtime, plan_erasure(runtime, runtime.reader.head(), "asked for"))
    found, read = rows(runtime, shelf)
    assert found == ["question 0"]
    assert read >= 2
    assert rows(runtime, shelf) == (["question 0"], 0)


def test_log_that_told_too_much_is_read_anew(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHARS_MAX", 600)
    shelf = PastShelf()
    runtime.log.append(failed(0))
    assert [rows(runtime, shelf)[1] for _ in range(2)] == [1, 0]
    runtime.log.append(failed(1))
    assert [rows(runtime, shelf)[1] for _ in range(3)] == [1, 2, 2]
