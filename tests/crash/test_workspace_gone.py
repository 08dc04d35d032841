"""A workspace that is moved, deleted or unmounted under a worker: nothing is recorded, nothing made anew."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from os import environ
from pathlib import Path

import pytest

from instar.engine.feedback_loop import write_beside
from instar.engine.runtime import Runtime
from instar.engine.watcher import rescan
from instar.fsm.errors import InstarError, LogError, LogLost, LogUnavailable
from instar.store.log import EventLog
from tests.engine.agents import PROJECT, code_only, instar


def moved(root: Path) -> None:
    root.rename(root.with_name("moved"))


def deleted(root: Path) -> None:
    """As ``rm -rf`` until it succeeds: a worker may just be writing a file where everything else is gone already."""
    for _ in range(100):
        shutil.rmtree(root, ignore_errors=True)
        if not root.exists():
            return
    raise AssertionError(f"{root} comes back again and again")


def unmounted(root: Path) -> None:
    """What was mounted here is gone, and an empty folder stands in its place."""
    moved(root)
    root.mkdir()


@pytest.mark.parametrize("loss", [moved, deleted, unmounted])
def test_worker_whose_workspace_goes_ends_and_makes_nothing_anew(tmp_path: Path, loss: Callable[[Path], None]) -> None:
    runtime = code_only(tmp_path / "agent")
    root, head = runtime.workspace.root, runtime.state.head
    runtime.close()
    command = [sys.executable, "-m", "instar.engine.cli.main", "run"]
    worker = subprocess.Popen(
        command, cwd=root, env={**environ, "PYTHONPATH": str(PROJECT)}, stderr=subprocess.PIPE, text=True
    )
    try:
        assert worker.stderr is not None
        while "watching" not in worker.stderr.readline():
            assert worker.poll() is None
        (root / "notes.txt").write_text("changed\n")
        log = EventLog(root / ".instar" / "log.db")
        while log.state.head == head:
            assert worker.poll() is None
        log.close()
        loss(root)
        said = worker.communicate(timeout=60)[1]
    finally:
        worker.kill()
        worker.wait()
    assert worker.returncode in (1, 3)
    assert "is gone" in said or "is no longer" in said
    assert "should not happen" not in said
    assert not root.exists() or not any(root.iterdir())
    if loss is not deleted:
        root.with_name("moved").rename(root.with_name("back"))
        kept = instar("log", "--json", cwd=root.with_name("back")).stdout
        assert b'"deleted"' not in kept
        assert instar("verify", cwd=root.with_name("back")).returncode == 0


@pytest.mark.parametrize("loss", [moved, deleted, unmounted])
def test_capture_of_a_root_that_is_gone_records_nothing(tmp_path: Path, loss: Callable[[Path], None]) -> None:
    runtime = code_only(tmp_path / "agent")
    rescan(runtime)
    loss(runtime.workspace.root)
    with pytest.raises(LogUnavailable, match="moved, deleted, replaced or unmounted"):
        runtime.capture.look()
    with pytest.raises(LogError):
        rescan(runtime)
    for write in (
        lambda: write_beside(runtime.workspace.audit, b"{}", runtime.workspace.root),
        lambda: runtime.blobs.put(bytes(2 << 20)),
        runtime.close,
    ):
        try:
            write()
        except (OSError, InstarError):
            continue
    assert not (runtime.workspace.root / ".instar").exists()


def test_capture_beside_another_log_records_nothing(tmp_path: Path) -> None:
    """The root stands, and another workspace's folder was put in the place of its own."""
    runtime = code_only(tmp_path / "agent")
    rescan(runtime)
    other = code_only(tmp_path / "other")
    head = other.state.head
    other.close()
    shutil.rmtree(runtime.workspace.home)
    other.workspace.home.rename(runtime.workspace.home)
    (runtime.workspace.root / "notes.txt").unlink()
    with pytest.raises(LogLost, match="no longer the file"):
        rescan(runtime)
    runtime.close()
    again = Runtime(runtime.workspace.root, actor="test")
    assert again.state.head == head
    again.close()
