"""Puts single files and folders back as they stood at an event, to their own place or as a copy elsewhere."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from instar.engine.references import resolve
from instar.engine.runtime import Runtime
from instar.fsm.decisions import Return, tree_at
from instar.fsm.errors import ConfigError, EffectFailedError, RollbackRefused
from instar.fsm.events import MutationApplied, RollbackFinished
from instar.fsm.words import Digest, Seq
from instar.store.durable import make_folder, write_durably
from instar.store.paths import encode_path
from instar.store.tree_changes import Found, find_path

from .copy_out import copy_out
from .rollback import RollbackPlan, finish_begun, plan_return


class Copied(Struct, frozen=True, kw_only=True):
    """What was copied to a new place."""

    path: str
    place: str
    files: int
    bytes: int


def tree_path(root: Path, given: str | Path, start: Path | None = None) -> str:
    """Spells a path as trees spell it; the root itself is the empty string.

    Args:
        root: the folder of the agent.
        given: absolute, or relative to ``start``.
        start: the root by default.

    Raises:
        ConfigError: it leads out of the root, or is empty: what an unset variable of a shell leaves is no wish for all.
    """
    if given == "":
        raise ConfigError(
            "an empty path names nothing (an unset variable of the shell leaves one): name a file or folder; "
            "`.` is the whole folder"
        )
    place = Path(os.path.normpath((start or root) / given))
    folder = place.parent.resolve() if place != root else place
    try:
        relative = (folder / place.name).relative_to(root) if place != root else Path()
    except ValueError:
        raise ConfigError(f"{given} does not lie in {root}: name a file or folder of the agent") from None
    return "" if relative == Path() else encode_path(os.fsencode(relative))


def plan_restore(runtime: Runtime, paths: Sequence[str], reference: str | int) -> RollbackPlan:
    """Computes what putting files and folders back would do; ``roll_back`` carries it out, ``undo`` takes it back.

    Args:
        runtime: the workspace.
        paths: as trees spell them.
        reference: as they stood at this event.

    Raises:
        ConfigError: nothing was captured there under one of the paths, or no path is given.
        Diverged, BlobMissing, BlobCorrupt, RollbackRefused: as ``plan_rollback``.
    """
    if not paths:
        raise ConfigError("name at least one file or folder")
    finish_begun(runtime)
    target = resolve(runtime.reader, reference)
    tree = _tree(runtime, target)
    for path in paths:
        _captured(runtime, tree, path, target)
    whole = "" in paths
    asked = Return(parts=("code",), paths=() if whole else tuple(sorted(set(paths))))
    return plan_return(runtime, target, asked)


def copy_to(runtime: Runtime, path: str, reference: str | int, place: Path) -> Copied:
    """Writes a file or folder as it stood at an event to a new place; nothing is recorded and nothing overwritten.

    Raises:
        ConfigError: nothing was captured there, or something stands at the new place.
        EffectFailedError: the disk is full, or not writable; nothing is left there.
        BlobMissing, BlobCorrupt: the store lacks a file; nothing is left there.
    """
    found = captured_at(runtime, path, reference)
    files, size = copy_out(runtime.capture.nodes, found, path, place)
    return Copied(path=path, place=str(place), files=files, bytes=size)


def captured_at(runtime: Runtime, path: str, reference: str | int) -> Found:
    """Finds a file or folder as it stood at an event.

    Raises:
        ConfigError: there is no such event, or nothing was captured there.
        RollbackRefused: it was seen there and not captured.
    """
    target = resolve(runtime.reader, reference)
    return _captured(runtime, _tree(runtime, target), path, target)


def displaced_at(runtime: Runtime, seq: Seq) -> dict[str, Digest]:
    """Names the bytes that a restore found in place of what it expected, by path.

    Raises:
        ConfigError: there is no such event, or it is the end of no restore, or of one that displaced nothing.
    """
    head = runtime.reader.head()
    if not 1 <= seq <= head:
        raise ConfigError(
            f"{seq} is no position of this log: it has events 1 to {head}. Give that of the RollbackFinished; "
            "`instar log --type RollbackFinished` lists them."
        )
    event = runtime.reader.get(seq).event
    kept = event.displaced if isinstance(event, RollbackFinished | MutationApplied) else ()
    if not kept:
        raise ConfigError(
            f"event {seq} displaced nothing: give the RollbackFinished that `instar log` shows with files"
        )
    return {one.path: one.blob for one in kept}


def displaced_from(runtime: Runtime, path: str, seq: Seq) -> Digest:
    """Names the bytes that a restore displaced at one path.

    Raises:
        ConfigError: it displaced nothing there, or as ``displaced_at``.
    """
    known = displaced_at(runtime, seq)
    if path not in known:
        raise ConfigError(f"event {seq} displaced nothing at {path}. It did at: {', '.join(sorted(known))}.")
    return known[path]


def give_back_displaced(runtime: Runtime, path: str, seq: Seq, place: Path) -> Copied:
    """Writes what a restore displaced at a path to a new place.

    Raises:
        ConfigError: the restore displaced nothing there, or something stands at the new place.
        EffectFailedError: the disk is full, or not writable.
    """
    content = runtime.blobs.get(displaced_from(runtime, path, seq))
    if os.path.lexists(place):
        raise ConfigError(f"something stands at {place}: give another place with --to")
    try:
        make_folder(place.parent)
        write_durably(place, content)
    except OSError as error:
        raise EffectFailedError(f"{place} cannot be written: {error}. The bytes are in the store still.") from error
    return Copied(path=path, place=str(place), files=1, bytes=len(content))


def _tree(runtime: Runtime, target: Seq) -> Digest:
    tree = tree_at(runtime.reader.state_at(target))
    if tree is None:
        raise ConfigError(f"no tree was captured at event {target}: choose a later one")
    return tree


def _captured(runtime: Runtime, tree: Digest, path: str, target: Seq) -> Found:
    found = find_path(runtime.capture.nodes, tree, path)
    if found.is_captured:
        return found
    if found.unmanaged is not None:
        raise RollbackRefused(f"{path} was seen at event {target} but not captured: {found.unmanaged}")
    raise ConfigError(f"{path} did not stand at event {target}. `instar log {path}` lists its versions.")
