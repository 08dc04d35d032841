"""What a shell task runs and what it records; what a mutation's gate may be."""

from __future__ import annotations

import math
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from instar.engine.feedback_rows import TEXT_CHARS_MAX
from instar.engine.runtime import Runtime
from instar.engine.shell_executor import OUTPUT_BYTES_MAX
from instar.engine.tool_executor import WORD_BYTES_MAX, execute, gate_words
from instar.fsm.errors import InputRefused
from instar.fsm.events import FeedbackReceived, TaskQueued
from instar.fsm.words import Seq
from tests.engine.agents import PROJECT, code_only

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


_AGENT = """
import os, sys, threading, time
from pathlib import Path
from instar.engine.runtime import Runtime
from instar.engine.tool_executor import execute
runtime = Runtime(Path(sys.argv[1]), actor="test")
def waits():
    frame, names = sys._current_frames()[threading.main_thread().ident], []
    while frame:
        names.append(frame.f_code.co_name)
        frame = frame.f_back
    return "run_captured" in names and "wait" in names and Path(sys.argv[1], "pid").exists()
def interrupt():
    while not waits():
        time.sleep(0.01)
    os.kill(os.getpid(), int(sys.argv[2]))
threading.Thread(target=interrupt).start()
execute(runtime, {"type": "shell", "command": "echo $$ > new; mv new pid; sleep 600"}, source="test")
"""


@pytest.mark.parametrize(
    ("number", "ended", "recorded"), [(signal.SIGINT, -signal.SIGINT, 130), (signal.SIGTERM, 143, 143)]
)
def test_task_that_is_interrupted_with_its_agent_is_killed_and_has_an_end(
    runtime: Runtime, number: int, ended: int, recorded: int
) -> None:
    root = runtime.workspace.root
    environ = {**os.environ, "PYTHONPATH": str(PROJECT)}
    done = subprocess.run([sys.executable, "-c", _AGENT, root, str(int(number))], env=environ, capture_output=True)
    assert done.returncode == ended, done.stderr.decode()
    (event,) = [record.event for record in runtime.reader.read(types=[FeedbackReceived])]
    assert isinstance(event, FeedbackReceived)
    assert (event.outcome, event.exit_code) == ("fail", recorded)
    assert not Path("/proc", (root / "pid").read_text().strip()).exists()


def test_command_too_long_to_be_run_is_refused_and_a_long_one_is_recorded_in_short(runtime: Runtime) -> None:
    head = runtime.reader.head()
    word = "x" * (WORD_BYTES_MAX - 1)
    for command in (word + "x", ["true", word + "x"], ["true", *[word] * 9]):
        with pytest.raises(InputRefused, match="Write the text into a file"):
            execute(runtime, {"type": "shell", "command": command}, source="test")
    assert runtime.reader.head() == head
    done = execute(runtime, {"type": "shell", "command": ["true", "a b", word, word, "c"]}, source="test")
    assert done.captured is not None
    assert done.captured.exit_code == 0
    queued, event = runtime.reader.get(Seq(done.event)).event, runtime.reader.get(Seq(done.feedback or 0)).event
    assert isinstance(queued, TaskQueued)
    assert isinstance(event, FeedbackReceived)
    assert queued.command[:2] == ("true", "a b")
    told = "[162150 characters left out]"
    assert queued.command[2:] == (f"{word[: TEXT_CHARS_MAX - 7]}… {told}",)
    assert len(event.input) < TEXT_CHARS_MAX + 50


@pytest.mark.parametrize("size", [OUTPUT_BYTES_MAX, OUTPUT_BYTES_MAX + 1, 5_000_000, 20_000_000])
def test_output_is_kept_up_to_its_limit(runtime: Runtime, size: int) -> None:
    line = f"printf begin; head -c {size - 8} /dev/zero; printf end"
    done = execute(runtime, {"type": "shell", "command": line}, source="test")
    assert done.captured is not None
    output = done.captured.output
    assert (output[:5], output[-3:]) == (b"begin", b"end")
    assert len(output) <= OUTPUT_BYTES_MAX
    told = re.search(rb"\n\xe2\x80\xa6 (\d+) bytes left out \xe2\x80\xa6\n", output)
    assert (told is None) == (size <= OUTPUT_BYTES_MAX)
    if told:
        assert len(output) - len(told[0]) + int(told[1]) == size
        assert len(output) > OUTPUT_BYTES_MAX - 100


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
