"""What tells of events as they come does not write into the folder that it tells of: that would have no end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.engine.agents import PROJECT, code_only

FOLLOWING = (("run",), ("log", "-f"), ("log", "-f", "--cursor", "me"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    code_only(tmp_path / "agent").close()
    return tmp_path / "agent"


def begun(root: Path, file: Path, *arguments: str) -> tuple[int | None, str]:
    """Begins a command whose output goes to a file; gives its exit code, None where it told events, and its words."""
    environ = {**os.environ, "PYTHONPATH": str(PROJECT)}
    with file.open("wb") as out:
        command = [sys.executable, "-m", "instar.engine.cli.main", *arguments]
        process = subprocess.Popen(command, cwd=root, stdout=out, stderr=subprocess.STDOUT, env=environ)
    deadline = time.monotonic() + 120
    while process.poll() is None and b"WorkspaceInitialized" not in file.read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    code = process.poll()
    process.send_signal(signal.SIGINT)
    process.wait()
    return code, file.read_text()


@pytest.mark.parametrize("arguments", FOLLOWING, ids=" ".join)
def test_output_into_the_watched_folder_is_refused(root: Path, arguments: tuple[str, ...]) -> None:
    code, told = begun(root, root / "told.txt", *arguments)
    assert code == 2
    assert "told.txt, in the folder that is watched" in told


@pytest.mark.parametrize("where", ["../told.txt", "told.log", "sub/told.txt", ".instar/told.txt"])
def test_output_that_no_tree_holds_is_taken(root: Path, where: str) -> None:
    (root / "sub").mkdir()
    (root / "sub" / ".gitignore").write_text("told.txt\n")
    (root / ".gitignore").write_text("*.log\n")
    code, _ = begun(root, root / where, "log", "-f")
    assert code is None
