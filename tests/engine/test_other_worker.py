"""An engine on a workspace whose worker is another process: it waits for that one as for its own."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from instar import Engine
from instar.engine.status import worker_runs
from instar.engine.workspace import Workspace
from instar.fsm.errors import EffectFailedError
from instar.store.lock import FileLock
from tests.engine.agents import PROJECT, code_only

PAIRS = [("open a file", "os.open")]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    code_only(tmp_path / "agent").close()
    return tmp_path / "agent"


@contextmanager
def other_worker(root: Path) -> Iterator[None]:
    """A worker as somebody else started it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "instar.engine.worker", str(root)],
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )
    try:
        deadline = time.monotonic() + 60
        while not worker_runs(Workspace(root)):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(60)


@contextmanager
def idle_holder(root: Path) -> Iterator[FileLock]:
    """Holds the workspace as a worker does, and does nothing."""
    lock = FileLock(Workspace(root).home / "worker.lock")
    with lock.held():
        yield lock


def test_engine_without_a_worker_waits_for_another(root: Path) -> None:
    with other_worker(root), Engine(root, worker=False) as engine:
        found = engine.learn(PAIRS, timeout_s=60)
        assert found.verdict == "not trained"
        engine.feedback(task_type="find", input="x", outcome="fail")
        assert engine.wait(timeout_s=60).waiting == 0


def test_engine_whose_own_worker_came_too_late_waits_for_another(root: Path) -> None:
    with other_worker(root), Engine(root) as engine:
        assert engine._process is not None
        assert engine._process.wait(60) != 0
        assert engine.learn(PAIRS, timeout_s=60).verdict == "not trained"
        engine.feedback(task_type="find", input="x", outcome="fail")
        assert engine.wait(timeout_s=60).waiting == 0


def test_time_is_up_while_another_worker_is_busy(root: Path) -> None:
    with idle_holder(root), Engine(root, worker=False) as engine:
        with pytest.raises(TimeoutError, match=r"busy after 0\.2 s"):
            engine.learn(PAIRS, timeout_s=0.2)
        with pytest.raises(TimeoutError, match=r"busy after 0\.1 s"):
            engine.wait(timeout_s=0.1)


def test_what_another_worker_left_is_done_here_or_told(root: Path) -> None:
    with Engine(root, worker=False) as engine:
        engine.feedback(task_type="find", input="x", outcome="fail")
        with pytest.raises(EffectFailedError, match="no worker"):
            engine.wait(timeout_s=1)
        lock = FileLock(engine.runtime.workspace.home / "worker.lock")
        held = threading.Event()

        def hold() -> None:
            with lock.held():
                held.set()
                time.sleep(1)

        holder = threading.Thread(target=hold)
        holder.start()
        held.wait()
        assert engine.learn(PAIRS, timeout_s=60).verdict == "not trained"
        holder.join()
        assert engine.status().waiting == 0
