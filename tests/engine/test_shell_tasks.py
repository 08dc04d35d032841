"""What a shell task runs and what it records; what a mutation's gate may be."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from instar.engine.runtime import Runtime
from instar.engine.tool_executor import execute, gate_words
from instar.fsm.errors import InputRefused
from instar.fsm.events import FeedbackReceived, TaskQueued
from instar.fsm.words import Seq
from tests.engine.agents import code_only

PATCH = "--- a\n+++ b\n"


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return code_only(tmp_path / "agent")


@pytest.mark.parametrize(
    ("command", "exit_code", "output"),
    [
        ("true && false", 1, b""),
        ("false || echo saved", 0, b"saved\n"),
        ("echo a; exit 7", 7, b"a\n"),
        ("echo one two | tr a-z A-Z > out.txt && cat out.txt", 0, b"ONE TWO\n"),
        ("echo $((1 + 2)) 'a  b'", 0, b"3 a  b\n"),
        ("kill -9 $$", 137, b""),
        (["echo", "a && b", "$HOME", "; exit 1"], 0, b"a && b $HOME ; exit 1\n"),
        (["false"], 1, b""),
    ],
)
def test_line_is_run_by_a_shell_and_words_by_none(
    runtime: Runtime, command: str | list[str], exit_code: int, output: bytes
) -> None:
    done = execute(runtime, {"type": "shell", "command": command}, source="test")
    assert done.captured is not None
    assert (done.captured.exit_code, done.captured.output) == (exit_code, output)
    queued, event = runtime.reader.get(Seq(done.event)).event, runtime.reader.get(Seq(done.feedback or 0)).event
    assert isinstance(queued, TaskQueued)
    assert isinstance(event, FeedbackReceived)
    assert (event.outcome, event.exit_code) == ("pass" if exit_code == 0 else "fail", exit_code)
    if isinstance(command, str):
        assert (queued.command, event.input) == (("/bin/sh", "-c", command), command)
    else:
        assert queued.command == tuple(command)


def test_program_that_a_line_names_and_is_not_there_is_a_failure(runtime: Runtime) -> None:
    done = execute(runtime, {"type": "shell", "command": "no-such-program --now"}, source="test")
    assert done.captured is not None
    assert done.captured.exit_code == 127


@pytest.mark.parametrize("command", [["no-such-program", "--now"], ["./no-such-file"], ["./no-program"], ["."]])
def test_program_that_is_not_there_is_a_failure_without_a_shell_too(runtime: Runtime, command: list[str]) -> None:
    (runtime.workspace.root / "no-program").write_text("not executable")
    done = execute(runtime, {"type": "shell", "command": command}, source="test")
    assert done.captured is not None
    assert done.captured.exit_code == 127
    assert b"cannot be run" in done.captured.output
    event = runtime.reader.get(Seq(done.feedback or 0)).event
    assert isinstance(event, FeedbackReceived)
    assert (event.outcome, event.exit_code) == ("fail", 127)


@pytest.mark.parametrize(
    ("command", "recorded"),
    [
        (["echo", "--token", "hunter2secret"], ("echo", "--token", "[redacted:token]")),
        (["echo", "password=hunter22", "a b"], ("echo", "password=[redacted:password]", "a b")),
        ("PGPASSWORD=hunter22 true", ("/bin/sh", "-c", "PGPASSWORD=[redacted:password] true")),
    ],
)
def test_secret_in_a_command_is_not_recorded(
    runtime: Runtime, command: str | list[str], recorded: tuple[str, ...]
) -> None:
    done = execute(runtime, {"type": "shell", "command": command}, source="test")
    queued = runtime.reader.get(Seq(done.event)).event
    assert isinstance(queued, TaskQueued)
    assert queued.command == recorded
    for record in runtime.reader.read():
        assert "hunter2" not in str(record)


def test_line_that_runs_too_long_is_killed_with_all_it_started(runtime: Runtime) -> None:
    task = {"type": "shell", "command": "sleep 60 & echo begun; wait", "timeout_s": 0.5}
    done = execute(runtime, task, source="test")
    assert done.captured is not None
    assert (done.captured.exit_code, done.captured.timed_out, done.captured.output) == (124, True, b"begun\n")
    assert done.captured.duration_s < 30


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"command": " \n"}, "the command is empty"),
        ({"command": []}, "the command is empty"),
        ({"command": [""]}, "the command is empty"),
        ({"command": "echo \0"}, "holds a NUL"),
        ({"command": ["echo", "\0"]}, "holds a NUL"),
        ({"command": "true", "timeout_s": 0}, "timeout_s is 0"),
        ({"command": "true", "timeout_s": math.nan}, "timeout_s is nan"),
    ],
)
def test_command_that_cannot_be_run_is_refused_before_it_is_recorded(
    runtime: Runtime, fields: dict[str, object], said: str
) -> None:
    head = runtime.reader.head()
    with pytest.raises(InputRefused, match=said):
        execute(runtime, {"type": "shell", **fields}, source="test")
    assert runtime.reader.head() == head


@pytest.mark.parametrize(
    "gate", ["true && false", "true; false", "true | false", "true\nfalse", "true & false", "true > x", "true $(false)"]
)
def test_gate_that_only_a_shell_would_obey_is_refused(runtime: Runtime, gate: str) -> None:
    head = runtime.reader.head()
    with pytest.raises(InputRefused, match=r"which only a shell obeys.*sh -c"):
        execute(runtime, {"type": "mutate", "patch": PATCH, "gate": gate}, source="test")
    assert runtime.reader.head() == head


@pytest.mark.parametrize(
    ("gate", "expected"),
    [
        (None, ()),
        ("{python} -m pytest -q\n", ("{python}", "-m", "pytest", "-q")),
        ("sh -c 'true && false'", ("sh", "-c", "true && false")),
        ("pytest -k \"a or (b)\" 'x;y' a\\&b", ("pytest", "-k", "a or (b)", "x;y", "a&b")),
        (["true", "&&", "false"], ("true", "&&", "false")),
    ],
)
def test_gate_is_split_into_words(gate: str | list[str] | None, expected: tuple[str, ...]) -> None:
    assert gate_words(gate) == expected


def test_gate_whose_quotation_is_open_is_refused() -> None:
    with pytest.raises(InputRefused, match="cannot be split into words"):
        gate_words("sh -c 'true")
