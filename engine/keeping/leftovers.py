"""Removes what no event needs and nothing would miss: folders that are made again, and what died processes left."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from instar.engine.restoring.restore import clear_staging
from instar.engine.runtime import Runtime
from instar.engine.status import worker_runs
from instar.engine.workspace import Workspace
from instar.fsm.state import AgentState
from instar.fsm.words import Digest, Seq
from instar.store.lock import FileLock

SAVED_MAX = 32
"""The latest saved states that are kept …"""
SAVED_APART = 4096
"""… and of the older ones one in so many events."""
_OLD_S = 3600


class Leftover(Struct, frozen=True):
    """A file or folder that may go."""

    path: Path
    what: str
    bytes: int


def find_leftovers(state: AgentState, workspace: Workspace) -> list[Leftover]:
    """Lists what may go; what a running worker may be using is left out."""
    found = [
        *_listed(_checkpoints(workspace.checkpoints, in_use(state)), "checkpoint folder, not active"),
        *_listed(_ways(workspace.ways, in_use(state)), "way to run a checkpoint, not active"),
        *_listed(_staging(workspace.staging, state), "staging of a finished restore"),
        *_listed(_torn_blobs(workspace.home / "blobs"), "blob file that was never finished"),
        *_listed(_indexes(workspace.memory, in_use(state)), "index of an embedding space, not active"),
    ]
    if not worker_runs(workspace) and state.cycle is None:
        scratch = workspace.scratch
        found += _listed(sorted(scratch.iterdir()) if scratch.is_dir() else [], "scratch of a finished effect")
    return found


def in_use(state: AgentState) -> set[Digest]:
    """Names the checkpoints whose folder or index a worker may need at any moment."""
    candidate = state.cycle.candidate.checkpoint if state.cycle and state.cycle.candidate else None
    return {digest for digest in (state.checkpoint, candidate) if digest is not None}


def _checkpoints(folder: Path, used: set[Digest]) -> Iterator[Path]:
    if folder.is_dir():
        yield from (path for path in sorted(folder.iterdir()) if path.is_dir() and path.name not in used)


def _ways(folder: Path, used: set[Digest]) -> Iterator[Path]:
    before = time.time() - _OLD_S
    for path in sorted(folder.glob("*")):
        with suppress(FileNotFoundError):
            if path.name not in used and (not path.name.startswith(".") or path.stat().st_mtime < before):
                yield path


def _staging(folder: Path, state: AgentState) -> Iterator[Path]:
    busy = state.restoring.plan if state.restoring else None
    if folder.is_dir():
        yield from (path for path in sorted(folder.iterdir()) if path.is_dir() and path.name != busy)


def _torn_blobs(folder: Path) -> Iterator[Path]:
    before = time.time() - _OLD_S
    for path in (*sorted(folder.glob("*/.*")), *sorted(folder.glob(".parts.*"))):
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < before:
                yield path


def _indexes(folder: Path, used: set[Digest]) -> Iterator[Path]:
    for path in sorted(folder.glob("*.*")):
        if path.suffix in {".usearch", ".meta"} and path.stem not in used:
            yield path


def _listed(paths: Iterator[Path] | list[Path], what: str) -> list[Leftover]:
    return [Leftover(path, what, size_below(path)) for path in paths]


def size_below(path: Path) -> int:
    """Adds up the bytes of a file, or of the files below a folder; what goes meanwhile counts as nothing."""
    found = 0
    for each in (path, *path.rglob("*")) if path.is_dir() else (path,):
        with suppress(OSError):
            status = each.lstat()
            found += 0 if each.is_dir() else status.st_size
    return found


def remove_leftovers(runtime: Runtime) -> list[Leftover]:
    """Removes them; returns what is gone.

    A file of a staging folder whose bytes are not in the store stays, and its folder with it.
    """
    with runtime.files.held():
        found = find_leftovers(runtime.state, runtime.workspace)
        if any(one.path.parent == runtime.workspace.checkpoints for one in found):
            with FileLock(runtime.workspace.checkpoints / ".lock").held():
                _remove(runtime, found)
        else:
            _remove(runtime, found)
    return [one for one in found if not one.path.exists()]


def _remove(runtime: Runtime, found: list[Leftover]) -> None:
    used = in_use(runtime.state)
    for one in found:
        if one.path.parent == runtime.workspace.staging:
            clear_staging(one.path, runtime.blobs)
        elif one.path.is_dir():
            if one.path.name not in used:
                shutil.rmtree(one.path, ignore_errors=True)
        else:
            with suppress(OSError):
                one.path.unlink()


def surplus_states(positions: list[Seq]) -> list[Seq]:
    """Chooses the saved states that may go: each is a copy of what the fold gives."""
    older = positions[:-SAVED_MAX]
    kept: dict[int, Seq] = {}
    for seq in older:
        kept.setdefault(seq // SAVED_APART, seq)
    return [seq for seq in older if kept[seq // SAVED_APART] != seq]


def thin_states(runtime: Runtime) -> int:
    """Removes saved states that lie close together; returns how many."""
    surplus = surplus_states([Seq(seq) for seq, _ in runtime.reader.saved_digests()])
    if surplus:
        with runtime.log.upkeep() as journal:
            journal.thin(surplus)
    return len(surplus)
