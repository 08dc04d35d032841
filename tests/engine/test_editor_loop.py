"""An editor writes in a loop while rollbacks run back and forth: no version of it is lost.

What is promised: a version that stands in a file when a rollback comes to that file was captured before, or is kept
when it is displaced; one that is written to a displaced file through a descriptor that was open is kept too.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from instar.engine.replay import replay
from instar.engine.restoring.rollback import finish_begun, roll_back
from instar.engine.runtime import Runtime
from instar.engine.snapshot import take_snapshot
from instar.fsm.errors import Diverged, RollbackRefused
from instar.fsm.events import RollbackFinished
from instar.fsm.words import Digest, digest_of
from tests.crash.tree_scenes import MEMORY
from tests.engine.agents import PROJECT, code_only
from tests.engine.editor import NAMES, content

ROLLBACKS_MIN = 5
"""So many are done however slow the machine is, lest there be nothing for an editor to lose."""


@dataclass
class Told:
    """What became of the versions that the editor did not write over itself."""

    written: int
    claimed: int
    rollbacks: int
    displaced: int
    refused: int
    lost: list[str]

    def __str__(self) -> str:
        return (
            f"{self.written} versions written during {self.rollbacks} rollbacks ({self.refused} refused while files "
            f"came and went, {self.displaced} files displaced): {self.claimed} taken away, {len(self.lost)} lost"
        )


def edit_during_rollbacks(folder: Path, how: str, seconds: float, pause_s: float = 0.0) -> Told:
    """Rolls back and forth while an editor writes, and looks for each version that was taken away from it."""
    runtime = code_only(folder / "agent")
    root = runtime.workspace.root
    points: list[int | str] = [1, *_points(runtime)]
    report, stop = folder / "report", folder / "stop"
    command = [sys.executable, "-m", "tests.engine.editor", str(root), str(report), how, str(stop), str(pause_s)]
    editor = subprocess.Popen(command, cwd=PROJECT, env={**os.environ, "PYTHONPATH": str(PROJECT)})
    while not report.exists():
        time.sleep(0.01)
    rollbacks = refused = 0
    until = time.monotonic() + seconds
    try:
        while time.monotonic() < until or rollbacks < ROLLBACKS_MIN:
            try:
                roll_back(runtime, points[rollbacks % len(points)])
                rollbacks += 1
            except (Diverged, RollbackRefused):
                refused += 1
    finally:
        stop.touch()
        assert editor.wait(120) == 0
    finish_begun(runtime)
    assert replay(runtime.reader).state == runtime.state
    lines = report.read_text().splitlines()
    claims = [line.removeprefix("claim ") for line in lines if line.startswith("claim ")]
    finished = [record.event for record in runtime.reader.read(types=[RollbackFinished])]
    told = Told(
        written=int(lines[-1].removeprefix("written ")),
        claimed=len(claims),
        rollbacks=rollbacks,
        displaced=sum(len(event.displaced) for event in finished if isinstance(event, RollbackFinished)),
        refused=refused,
        lost=[claim for claim in claims if not _is_there(runtime, claim)],
    )
    runtime.close()
    return told


def _points(runtime: Runtime) -> list[str]:
    """Three trees that hold the editor's files, some of them, and none."""
    root = runtime.workspace.root
    for number, name in enumerate(NAMES):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content(name, -number))
    take_snapshot(runtime, "all")
    (root / NAMES[0]).unlink()
    (root / NAMES[2]).unlink()
    (root / NAMES[1]).write_bytes(b"other\n")
    take_snapshot(runtime, "some")
    return ["snapshot:all", "snapshot:some"]


def _is_there(runtime: Runtime, claim: str) -> bool:
    """Says whether a version stands in the workspace, is in the store, or lies where displaced bytes are kept."""
    name, _, number = claim.partition(" version ")
    version = content(name, int(number))
    place = runtime.workspace.root / name
    if runtime.blobs.has(Digest(digest_of(version))) or (place.is_file() and place.read_bytes() == version):
        return True
    return any(path.read_bytes() == version for path in _kept(runtime))


def _kept(runtime: Runtime) -> list[Path]:
    """Lists what rollbacks have left where they keep displaced files."""
    return sorted(path for path in runtime.workspace.staging.rglob("*") if path.is_file())


@pytest.mark.parametrize("how", ["rename", "place"])
def test_editor_that_writes_during_rollbacks_loses_no_version(tmp_path: Path, how: str) -> None:
    told = edit_during_rollbacks(tmp_path, how, seconds=0.8, pause_s=0.0002)
    assert not told.lost, told
    assert told.claimed > len(NAMES), told


def test_what_is_written_to_a_file_after_it_was_displaced_is_kept(tmp_path: Path) -> None:
    runtime = code_only(tmp_path / "agent")
    root = runtime.workspace.root
    (root / "notes.txt").write_text("edited\n")
    with (root / "notes.txt").open("r+b", buffering=0) as editor:
        assert roll_back(runtime, 1).displaced == 0
        assert (root / "notes.txt").read_text() == "first line\n"
        editor.write(b"typed since")
    (kept,) = _kept(runtime)
    assert kept.read_bytes() == b"typed since"
    roll_back(runtime, 1)
    assert _kept(runtime) == [kept], "the store does not hold it: nobody may take it away"
    runtime.close()


def test_file_that_was_held_open_and_not_written_to_goes_when_it_is_closed(tmp_path: Path) -> None:
    runtime = code_only(tmp_path / "agent")
    root = runtime.workspace.root
    (root / "notes.txt").write_text("edited\n")
    with (root / "notes.txt").open("r+b"):
        roll_back(runtime, 1)
        assert [path.read_bytes() for path in _kept(runtime)] == [b"edited\n"]
    (root / "notes.txt").write_text("edited once more\n")
    roll_back(runtime, 1)
    assert _kept(runtime) == []
    runtime.close()


@pytest.mark.torture
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("pause_s", [0.0, 0.001, 0.02])
@pytest.mark.parametrize("how", ["rename", "place"])
def test_editors_that_write_during_many_rollbacks_lose_no_version(how: str, pause_s: float) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        told = edit_during_rollbacks(Path(folder), how, seconds=20, pause_s=pause_s)
    assert not told.lost, told
    print(f"\n{how}, a version every {pause_s:g} s: {told}")
