"""What an engine opens it closes: from Python 3.13 on the driver of SQLite tells of a connection that nobody closed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engine.agents import PROJECT, code_only

_USE = """
import gc
import instar
from instar.engine.cli.main import main

with instar.Engine(".") as engine:
    engine.feedback(task_type="t", input="a", output="b", reference="c", outcome="fail", confidence=0.4)
    engine.snapshot("s")
    engine.rollback("snapshot:s")
    engine.replay()
del engine
gc.collect()
for verb in (["status"], ["log"], ["replay"], ["verify"], ["diff", "1"], ["why", "latest"], ["rollback", "1", "-n"]):
    assert main(verb) == 0, verb
    gc.collect()
"""


@pytest.mark.skipif(sys.version_info < (3, 13), reason="the driver of an older Python does not tell")
def test_engine_and_verbs_leave_nothing_open(tmp_path: Path) -> None:
    code_only(tmp_path / "agent").close()
    command = [sys.executable, "-W", "error::ResourceWarning", "-c", _USE]
    environ = {**os.environ, "PYTHONPATH": str(PROJECT)}
    done = subprocess.run(command, cwd=tmp_path / "agent", env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
