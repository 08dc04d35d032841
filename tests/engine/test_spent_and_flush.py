"""What a rollback makes durable at once, and what it removes after it is done."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest

from instar.engine.files import flush, spent
from instar.engine.restoring import staging
from instar.engine.restoring.rollback import roll_back
from instar.engine.restoring.staging import sweep
from instar.engine.runtime import Runtime
from instar.engine.watcher import rescan
from instar.fsm.errors import EffectFailedError
from tests.engine.agents import code_only, contents

FILES = 40


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    runtime = code_only(tmp_path / "agent")
    for number in range(FILES):
        (runtime.workspace.root / f"m{number}.py").write_text(f"x = {number}\n")
    rescan(runtime)
    return runtime


def edit(runtime: Runtime) -> tuple[int, object]:
    head, before = runtime.state.head, contents(runtime.workspace.root)
    for number in range(FILES):
        (runtime.workspace.root / f"m{number}.py").write_text("changed\n")
    rescan(runtime)
    return head, before


def left(runtime: Runtime) -> list[Path]:
    for thread in threading.enumerate():
        if thread.name == "instar-remove":
            thread.join()
    return list(runtime.workspace.staging.iterdir())


def test_disk_that_fails_while_it_is_staged_is_told_and_nothing_moves(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    head, _ = edit(runtime)
    edited = contents(runtime.workspace.root)

    def failing(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(staging, "sync_names", failing)
    with pytest.raises(EffectFailedError, match="No space left"):
        roll_back(runtime, head)
    assert contents(runtime.workspace.root) == edited
    assert not left(runtime)
    assert not runtime.state.restoring


def test_files_that_are_slow_to_remove_are_removed_beside(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    head, before = edit(runtime)
    monkeypatch.setattr(staging, "SLOW_S", 0.0)
    started: list[Path] = []
    remove_beside = spent.remove_beside
    monkeypatch.setattr(staging, "remove_beside", lambda folder: (started.append(folder), remove_beside(folder)))
    roll_back(runtime, head)
    assert contents(runtime.workspace.root) == before
    assert len(started) == 1
    assert started[0].suffix == spent.SUFFIX
    assert not left(runtime)


def test_folder_that_a_process_left_while_it_removed_it_is_swept(runtime: Runtime) -> None:
    folder = runtime.workspace.staging / f"a{spent.SUFFIX}"
    folder.mkdir(parents=True)
    (folder / "7").write_bytes(b"in the store, as was seen before the folder got its name")
    sweep(runtime.workspace.staging, runtime.blobs)
    assert not folder.exists()


@pytest.mark.parametrize(
    ("dirty_kb", "count", "kind", "whole"),
    [
        (100, 31, 0xEF53, False),
        (100, 32, 0xEF53, True),
        (100_000, 32, 0xEF53, False),
        (100_000, 512, 0xEF53, True),
        (100_000, 32, 0x01021994, True),
        (100, 600, 0x794C7630, False),
    ],
)
def test_whole_file_system_is_synced_only_where_that_is_wise(
    dirty_kb: int, count: int, kind: int, whole: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = tmp_path / "meminfo"
    memory.write_text(f"MemFree: 12 kB\nDirty:   {dirty_kb} kB\nWriteback:    0 kB\n")
    synced: list[int] = []
    monkeypatch.setattr(flush, "_MEMORY", str(memory))
    monkeypatch.setattr(flush, "_syncfs", lambda fd: synced.append(fd) or 0)
    monkeypatch.setattr(flush, "_kind_of", lambda _: kind)
    assert flush.sync_all(5, count) is whole
    assert synced == ([5] if whole else [])
    shutil.rmtree(tmp_path)
    if kind == 0xEF53 and 32 <= count < 512:
        assert not flush.sync_all(5, count), "what cannot be read is taken for much"
