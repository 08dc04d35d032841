"""Feedback and trigger files from outside: taken, or refused with a word that says why."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from instar import Engine
from instar.engine import feedback_loop
from instar.engine.feedback_loop import foreign_trigger, remove_trigger, render_trigger, take_trigger, write_beside
from instar.engine.feedback_rows import TEXT_CHARS_MAX, check_feedback, read_jsonl
from instar.engine.runtime import Runtime
from instar.engine.worker import Worker
from instar.fsm.codec import encode_event
from instar.fsm.errors import InputRefused
from instar.fsm.events import FeedbackReceived, InputSkipped, TaskQueued, Trigger
from instar.fsm.words import Seq, digest_of
from instar.store.log import Pending
from tests.engine.agents import code_only


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"confidence": math.nan}, "confidence is nan"),
        ({"confidence": math.inf}, "confidence is inf"),
        ({"confidence": 1.01}, "confidence is 1.01"),
        ({"confidence": -0.1}, "confidence is -0.1"),
        ({"reward": 2}, "reward is 2"),
        ({"task_type": ""}, "length >= 1"),
        ({"task_type": "a\nb"}, "matching regex"),
        ({"task_type": "a\n"}, "matching regex"),
        ({"task_type": None}, "Expected `str`"),
        ({"outcome": "maybe"}, "Invalid enum value"),
        ({"colour": "red"}, "unknown field"),
        ({"input": "  "}, "input is empty"),
        ({"confidence": "high"}, "Expected `float"),
    ],
)
def test_bad_feedback_is_refused_and_says_why(change: dict[str, object], said: str) -> None:
    with pytest.raises(InputRefused, match=said):
        check_feedback({"task_type": "find", "input": "x"} | change)


def test_unknown_task_type_is_taken_as_a_new_one() -> None:
    assert check_feedback({"task_type": "never seen", "input": "x"}).task_type == "never seen"


@given(st.text(), st.text())
def test_any_text_can_be_recorded(text: str, output: str) -> None:
    if text.strip():
        encode_event(check_feedback({"task_type": "t", "input": text, "output": output + "\ud800"}))


def test_no_field_keeps_what_is_no_utf8_or_a_secret() -> None:
    odd = "so\ud800 password=hunter2"
    row = dict.fromkeys(("task_type", "input", "output", "reference", "group", "source"), odd)
    event = check_feedback(row)
    encode_event(event)
    assert {getattr(event, name) for name in row} == {"so? password=[redacted:password]"}


def test_rows_are_refused_by_their_place(tmp_path: Path) -> None:
    code_only(tmp_path / "agent").close()
    row = {"task_type": "find", "input": "x"}
    with Engine(tmp_path / "agent", worker=False) as engine:
        head = engine.status().head
        for wrong in (3, "ab", None, ["ab"], {**row, "confidence": 2}, {"input": "x"}, {1: 2}):
            with pytest.raises(InputRefused, match="row 1: feedback refused"):
                engine.feedback_many([row, wrong])  # type: ignore[list-item]
        with pytest.raises(InputRefused, match="no rows"):
            engine.feedback_many(3)  # type: ignore[arg-type]
        assert engine.feedback_many([]) == []
        assert engine.status().head == head


def test_skipped_row_of_a_file_whose_name_is_no_utf8_is_recorded() -> None:
    (skipped,) = read_jsonl([b"{}"], "rows\udcff.jsonl")
    encode_event(skipped)


def test_note_and_source_of_an_order_are_recorded_as_utf8(tmp_path: Path) -> None:
    code_only(tmp_path / "agent").close()
    with Engine(tmp_path / "agent", worker=False) as engine:
        found = engine.learn([("a", "b")], task_type="t\udcff", source="me\udcff", note="n\udcff")
        diff = "--- a/notes.txt\n+++ b/notes.txt\n@@ -1 +1 @@\n-first line\n+line\n"
        with pytest.raises(InputRefused, match="UTF-8"):
            engine.execute({"type": "mutate", "patch": diff + "\udcff"})
        told = {one.seq: one.event for one in engine.events()}
    assert getattr(told[found.task], "note", "") == "n?"
    assert getattr(told[found.task], "source", "") == "me?"
    assert getattr(told[Seq(found.task + 1)], "task_type", "") == "t?"


def test_huge_text_is_cut_with_a_note() -> None:
    event = check_feedback({"task_type": "t", "input": "x" * (TEXT_CHARS_MAX + 5)})
    assert event.input.endswith("… [5 characters left out]")


def test_rows_are_taken_and_bad_ones_become_skipped_items() -> None:
    lines = [
        b'{"task_type":"a","input":"one"}',
        b"",
        b"{not json}",
        b'["no object"]',
        b'{"task_type":"a","input":"x","confidence":NaN}',
        b'{"task_type":"a","input":"x","confidence":7}',
        b"\xff\xfe",
        '{"task_type":"a","input":"zwölf"}'.encode(),
    ]
    events = list(read_jsonl(lines, "file"))
    assert [type(event).__name__ for event in events] == ["FeedbackReceived", *["InputSkipped"] * 5, "FeedbackReceived"]
    skipped = [event for event in events if isinstance(event, InputSkipped)]
    assert [event.subject for event in skipped] == ["file:3", "file:4", "file:5", "file:6", "file:7"]
    assert all(event.reason for event in skipped)


TRIGGERS = (
    Trigger("code_mutation", 1.0, 1.0, (Seq(2),), "changed"),
    Trigger("feedback", 0.0, 0.5, (Seq(3),), "failed"),
)


def test_trigger_file_has_the_shape_of_the_seed() -> None:
    import json

    content = json.loads(render_trigger(TRIGGERS, 1_747_573_860_000_000))
    assert content["trigger"] == "mutation_watcher"
    assert content["time"] == "2025-05-18T13:11:00Z"
    assert content["note"] == "changed; failed"
    assert [trigger["policy"] for trigger in content["triggers"]] == ["code_mutation", "feedback"]


def test_dropped_trigger_becomes_a_task() -> None:
    event = take_trigger(b'{"trigger": "cron", "time": "2025-05-18T13:11:00Z", "note": "nightly", "more": 1}')
    assert event == TaskQueued(task="self_train", source="trigger_file:cron", note="nightly")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"time": "x"}', b'{"trigger": 3}', b"\xff"])
def test_malformed_trigger_is_a_skipped_item(content: bytes) -> None:
    event = take_trigger(content)
    assert isinstance(event, InputSkipped)
    assert "no trigger" in event.reason


def test_secret_in_a_dropped_trigger_is_not_recorded() -> None:
    token = "ghp_" + "a1B2" * 9
    event = take_trigger(f'{{"trigger": "cron {token}", "note": "password=hunter22 {token}"}}'.encode())
    assert event == TaskQueued(
        task="self_train",
        source="trigger_file:cron [redacted:github-token]",
        note="password=[redacted:password] [redacted:github-token]",
    )
    broken = take_trigger(f'{{"note": "{token}"'.encode())
    assert isinstance(broken, InputSkipped)
    assert "a1B2" not in broken.excerpt


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return code_only(tmp_path / "agent")


def test_trigger_is_taken_once_and_our_own_is_not(runtime: Runtime) -> None:
    path = runtime.workspace.retrain_trigger
    assert foreign_trigger(runtime) is None
    own = render_trigger(TRIGGERS, 1)
    write_beside(path, own, runtime.workspace.root)
    assert foreign_trigger(runtime, own=own) is None
    write_beside(path, b'{"trigger": "cron"}', runtime.workspace.root)
    pending = foreign_trigger(runtime)
    assert pending is not None
    runtime.log.transact(lambda _: [pending])
    assert foreign_trigger(runtime) is None
    assert runtime.state.waiting[0].entry == "self_train"


def test_shell_failure_is_feedback_and_output_is_kept(runtime: Runtime) -> None:
    from instar.engine.tool_executor import execute

    done = execute(runtime, {"type": "shell", "command": "sh -c 'echo out; echo err >&2; exit 3'"}, source="test")
    assert done.captured is not None
    assert done.captured.exit_code == 3
    event = runtime.reader.get(done.feedback or 0).event
    assert isinstance(event, FeedbackReceived)
    assert (event.outcome, event.exit_code, event.source) == ("fail", 3, "shell")
    assert event.log is not None
    assert runtime.blobs.get(event.log) == b"out\nerr\n"


@pytest.mark.parametrize(
    "task", [{}, {"type": "dance"}, {"type": "shell"}, {"type": "mutate"}, {"type": "self_train", "x": 1}]
)
def test_malformed_task_is_refused(runtime: Runtime, task: dict[str, object]) -> None:
    from instar.engine.tool_executor import execute

    head = runtime.reader.head()
    with pytest.raises(InputRefused, match="task refused"):
        execute(runtime, task, source="test")
    assert runtime.reader.head() == head


HALF = "\udcff"


@pytest.mark.parametrize(
    "task",
    [
        {"type": HALF},
        {"type": "shell", "command": f"echo {HALF}"},
        {"type": "shell", "command": ["echo", HALF]},
        {"type": "shell", "command": "true", "task_type": HALF},
        {"type": "self_train", "note": HALF},
        {"type": "self_train", "recipe": {HALF: 1}},
        {"type": "self_train", "recipe": {"loss": HALF}},
        {"type": "mutate", "patch": f"--- a\n+++ b\n{HALF}"},
        {"type": "mutate", "patch": "--- a\n+++ b\n", "gate": f"true {HALF}"},
        {"type": "mutate", "patch": "--- a\n+++ b\n", "gate": ["true", HALF]},
        {"type": "mutate", "patch": "--- a\n+++ b\n", "note": HALF},
    ],
)
def test_task_with_half_a_character_is_refused_before_anything_is_done(
    runtime: Runtime, task: dict[str, object]
) -> None:
    from instar.engine.tool_executor import execute

    head = runtime.reader.head()
    with pytest.raises(InputRefused, match=r"task refused: .* holds '\\udcff', half a character.* errors=.replace."):
        execute(runtime, task, source="test")
    assert runtime.reader.head() == head


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 201])
def test_shell_task_is_named_as_feedback_may_be(runtime: Runtime, name: str) -> None:
    from instar.engine.tool_executor import execute

    with pytest.raises(InputRefused, match="task refused"):
        execute(runtime, {"type": "shell", "command": "true", "task_type": name}, source="test")


@pytest.mark.parametrize("field", ["task_type", "source"])
def test_event_with_half_a_character_is_refused_by_the_log(runtime: Runtime, field: str) -> None:
    good = check_feedback({"task_type": "a", "input": "b"})
    bad = replace(good, **{field: HALF})
    head = runtime.reader.head()
    with pytest.raises(InputRefused, match=r"FeedbackReceived holds '\\udcff'"):
        runtime.log.append(bad)
    with pytest.raises(InputRefused):
        runtime.log.transact(lambda _: [Pending(good), Pending(bad)])
    assert runtime.reader.head() == head
    assert runtime.log.append(good).seq == head + 1


class JustWritten:
    """A clock: it is the moment of a file's last write, and something happens while it is waited."""

    def __init__(self, path: Path, meanwhile: Callable[[], None]) -> None:
        self._path, self._meanwhile = path, meanwhile

    def time(self) -> float:
        return self._path.stat().st_mtime

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self._meanwhile()


def test_trigger_that_is_still_being_written_is_waited_for(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    path = runtime.workspace.retrain_trigger
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    parts = ['{"trigger": ', '"slow"}']

    def write_next() -> None:
        with path.open("a") as file:
            file.write(parts.pop(0))

    with monkeypatch.context() as patched:
        patched.setattr(feedback_loop, "time", JustWritten(path, write_next))
        assert foreign_trigger(runtime) is None
        assert foreign_trigger(runtime) is None
    assert parts == []
    pending = foreign_trigger(runtime)
    assert pending is not None
    assert pending.event == TaskQueued(task="self_train", source="trigger_file:slow", note="")


def test_trigger_dropped_while_another_is_taken_is_not_lost(runtime: Runtime) -> None:
    path = runtime.workspace.retrain_trigger
    write_beside(path, b'{"trigger": "first"}', runtime.workspace.root)
    first = foreign_trigger(runtime)
    assert first is not None
    runtime.log.transact(lambda _: [first])
    write_beside(path, b'{"trigger": "second"}', runtime.workspace.root)
    remove_trigger(runtime, first)
    assert not path.exists()
    sources = [r.event.source for r in runtime.reader.read(types=[TaskQueued])]  # type: ignore[union-attr]
    assert sources == ["trigger_file:first", "trigger_file:second"]


@pytest.mark.parametrize("content", ['{"trigger": "foreign"}', "hunter2 is no trigger"])
def test_link_in_place_of_a_trigger_is_not_followed(runtime: Runtime, tmp_path: Path, content: str) -> None:
    foreign = tmp_path / "foreign.txt"
    foreign.write_text(content)
    path = runtime.workspace.retrain_trigger
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(foreign)
    head = runtime.reader.head()
    assert foreign_trigger(runtime) is None
    Worker(runtime).take_trigger_file()
    assert runtime.reader.head() == head
    assert not runtime.blobs.has(digest_of(content.encode()))
    path.unlink()
    os.mkfifo(path)
    assert foreign_trigger(runtime) is None


def test_trigger_that_is_replaced_while_it_is_waited_for_is_taken_the_next_time(
    runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = runtime.workspace.retrain_trigger
    write_beside(path, b'{"trigger": "whole"}', runtime.workspace.root)
    (tmp_path / "foreign").write_bytes(b'{"trigger": "other"}')

    def put_link() -> None:
        path.unlink()
        path.symlink_to(tmp_path / "foreign")

    with monkeypatch.context() as patched:
        patched.setattr(feedback_loop, "time", JustWritten(path, put_link))
        assert foreign_trigger(runtime) is None
    assert foreign_trigger(runtime) is None
