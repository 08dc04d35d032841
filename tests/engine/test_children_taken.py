"""A host that ignores SIGCHLD, or waits for every child, leaves no exit code to learn: none is taken for a pass."""

from __future__ import annotations

import difflib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from instar.engine.shell_executor import UNKNOWN
from instar.fsm.events import FeedbackReceived, MutationRejected
from instar.store.reader import LogReader
from tests.engine.agents import HEURISTICS, PROJECT, code_only

HOST = """
import os, signal, sys
import instar

def take_every_child(*_):
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass

signal.signal(signal.SIGCHLD, signal.SIG_IGN if sys.argv[2] == "ignores" else take_every_child)
with instar.Engine(sys.argv[1], worker=False) as engine:
    print(engine.execute({"type": "shell", "command": sys.argv[3]}).captured.exit_code)
"""


def _host(folder: Path, how: str, command: str) -> int:
    environ = {**os.environ, "PYTHONPATH": str(PROJECT)}
    arguments = [sys.executable, "-c", HOST, str(folder), how, command]
    return int(subprocess.run(arguments, env=environ, capture_output=True, check=True).stdout)


@pytest.mark.parametrize("how", ["ignores", "takes"])
def test_failure_of_a_command_is_no_pass_where_its_host_takes_its_end(tmp_path: Path, how: str) -> None:
    runtime = code_only(tmp_path / "agent")
    assert _host(runtime.workspace.root, how, "exit 3") in (3, UNKNOWN)  # 3 where the host came too late
    event = runtime.reader.tail(1)[0].event
    assert isinstance(event, FeedbackReceived)
    assert event.outcome == "fail"
    if event.exit_code == UNKNOWN:
        assert "SIGCHLD" in event.output
    runtime.close()


def test_ignored_sigchld_gives_an_exit_code_that_is_unknown(tmp_path: Path) -> None:
    runtime = code_only(tmp_path / "agent")
    assert _host(runtime.workspace.root, "ignores", "exit 3") == UNKNOWN
    runtime.close()


def test_gate_of_a_command_whose_parent_ignores_sigchld_still_fails(tmp_path: Path) -> None:
    runtime = code_only(tmp_path / "agent")
    root = runtime.workspace.root
    runtime.close()
    before, after = HEURISTICS, HEURISTICS.replace("a + b", "b + a")
    changed = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), "a/heuristics.py", "b/heuristics.py"
    )
    (tmp_path / "p.diff").write_text("".join(changed))
    environ = {**os.environ, "PYTHONPATH": str(PROJECT)}
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "instar.engine.cli.main",
            "mutate",
            "--patch",
            str(tmp_path / "p.diff"),
            "--gate",
            "false",
        ],
        cwd=root,
        env=environ,
        capture_output=True,
        preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN),
        check=False,
    )
    assert done.returncode == 5, (done.stdout, done.stderr)
    rejected = [record.event for record in LogReader(root / ".instar" / "log.db").read(types=[MutationRejected])]
    assert [event.exit_code for event in rejected if isinstance(event, MutationRejected)] == [1]
