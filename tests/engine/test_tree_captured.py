"""A tree in which no file differs is another tree all the same: empty folders, and what is left out no more."""

from __future__ import annotations

from pathlib import Path

import pytest

from instar.engine.restoring.rollback import roll_back
from instar.engine.runtime import Runtime
from instar.engine.snapshot import take_snapshot
from instar.engine.watcher import rescan
from instar.fsm.events import TreeCaptured
from tests.engine.agents import code_only


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return code_only(tmp_path / "agent")


def test_empty_folder_that_came_alone_is_in_the_snapshot(runtime: Runtime) -> None:
    root = runtime.workspace.root
    (root / "empty" / "deep").mkdir(parents=True)
    take_snapshot(runtime, "with")
    (root / "empty" / "deep").rmdir()
    (root / "empty").rmdir()
    roll_back(runtime, "snapshot:with")
    assert (root / "empty" / "deep").is_dir()
    roll_back(runtime, 1)
    assert not (root / "empty").exists()


def test_file_that_is_no_longer_left_out_and_gone_is_absent_from_the_snapshot(runtime: Runtime) -> None:
    root = runtime.workspace.root
    (root / "data.bin").write_bytes(b"x" * 11_000_000)
    take_snapshot(runtime, "left-out")
    (root / "data.bin").unlink()
    take_snapshot(runtime, "gone")
    (root / "data.bin").write_bytes(b"small")
    roll_back(runtime, "snapshot:left-out")
    assert (root / "data.bin").read_bytes() == b"small", "nobody knows what it was"
    roll_back(runtime, "snapshot:gone")
    assert not (root / "data.bin").exists()


def test_tree_is_recorded_once(runtime: Runtime) -> None:
    (runtime.workspace.root / "empty").mkdir()
    records = rescan(runtime)
    assert [type(record.event) for record in records] == [TreeCaptured]
    assert rescan(runtime) == []
    assert rescan(runtime, full=True) == []
