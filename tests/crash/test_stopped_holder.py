"""A stopped process that holds a lock: whoever waits for it says so, and goes on once it is given back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engine.agents import PROJECT, code_only

HOLD = """
import os, signal, sys
from pathlib import Path
from instar.store.lock import FileLock
with FileLock(Path(sys.argv[1])).held():
    print("held", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
"""
GIVEN = ("feedback", "--task-type", "t", "--input", "i", "--output", "o", "--outcome", "pass")


@pytest.mark.parametrize(("lock", "verb"), [("log.lock", GIVEN), ("files.lock", ("snapshot", "x"))])
def test_wait_for_a_stopped_process_names_it_and_ends_with_it(tmp_path: Path, lock: str, verb: tuple[str, ...]) -> None:
    root = tmp_path / "agent"
    code_only(root).close()
    environ = {**os.environ, "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-c", HOLD, str(root / ".instar" / lock)]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        os.waitpid(holder.pid, os.WUNTRACED)
        command = [sys.executable, "-m", "instar.engine.cli.main", *verb]
        with subprocess.Popen(command, cwd=root, env=environ, stderr=subprocess.PIPE, text=True) as waiter:
            assert waiter.stderr is not None
            said = waiter.stderr.readline()
            assert waiter.poll() is None
            holder.send_signal(signal.SIGCONT)
            assert waiter.wait(60) == 0
    assert f"which process {holder.pid} (" in said
    assert "is stopped" in said
    assert lock in said
