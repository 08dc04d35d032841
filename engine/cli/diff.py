"""``instar diff``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec.structs import replace

from instar.engine.visible import visible

from .output import Json, Root, emit

if TYPE_CHECKING:
    from instar.engine.differences.state_diff import StateDiff
    from instar.engine.differences.tree_diff import CodeDiff

    from .diff_sides import Sides


def command(
    a: Annotated[str, typer.Argument(metavar="A", help="A seq, latest, latest~N, snapshot:NAME, a time.")],
    more: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[B] [PATH]...",
            help="Another reference, by default the folder as it stands now; then files or folders to look at alone.",
        ),
    ] = None,
    stat: Annotated[bool, typer.Option("--stat", help="Count lines and name units in place of showing them.")] = False,
    name_only: Annotated[bool, typer.Option("--name-only", help="Only the paths that differ, one a line.")] = False,
    workspace: Root = None,
    json: Json = False,
) -> None:
    """Show what differs between two points: code as a patch, checkpoint, memory, rewards, policy.

    `git apply` takes the patch: it holds the files' own bytes, and odd names as git quotes them. --json holds no lines,
    only counts of those of UTF-8, and spells paths as the log does: with %XX for a byte that is no UTF-8, and for %.
    """
    from instar.engine.differences.git_names import shown
    from instar.engine.differences.state_diff import compare_states
    from instar.engine.references import is_reference
    from instar.engine.restoring.restore_path import tree_path

    from .diff_output import code_lines, lines_of
    from .diff_sides import opened

    rest = list(more or ())
    b = rest.pop(0) if rest and is_reference(rest[0]) else None
    lines: list[str] = []
    patch = b""
    with opened(workspace, a, b) as sides:
        start = Path.cwd() if workspace is None else None
        paths = [tree_path(sides.root, path, start) for path in rest]
        found = compare_states(sides.reader, sides.blobs, sides.first, sides.last, tree=sides.standing)
        _require_known(sides, found.code, paths)
        found = _within(found, paths)
        if name_only:
            lines = [shown(one.path) for one in found.code.paths]
        elif stat:
            code = code_lines(found.code)
            lines = code if paths else [*lines_of(found, code)]
        elif not json:
            told = [] if paths else [visible(line).encode() for line in lines_of(found)]  # none begins another patch
            patch = b"".join(line + b"\n" for line in (*_patch(sides, found.code, paths), *told))
    emit("diff", {"same": found.same, "diff": found}, as_json=json, lines=lines, patch=patch)


def _require_known(sides: Sides, code: CodeDiff, paths: list[str]) -> None:
    """Refuses a path that stands nowhere, such as a reference that was mistyped.

    Raises:
        ConfigError: it stands at neither point and not in the folder.
        BlobMissing, BlobCorrupt: a tree is not in the store, or damaged.
    """
    from instar.engine.differences.git_names import shown
    from instar.engine.references import FORMS
    from instar.fsm.errors import ConfigError
    from instar.store.paths import decode_path
    from instar.store.tree_changes import Found, find_path

    trees = [tree for tree in (code.before, code.after) if tree is not None]
    for path in paths:
        if os.path.lexists(sides.root / os.fsdecode(decode_path(path))):
            continue
        if all(find_path(sides.nodes, tree, path) == Found() for tree in trees):
            raise ConfigError(
                f"{shown(path)} stands at neither point nor in the folder, and is no reference either. "
                f"Give {FORMS}, or a file or folder that stands there; `instar log PATH` lists the versions of a file."
            )


def _within(found: StateDiff, paths: list[str]) -> StateDiff:
    """Keeps what differs at or below some paths, or all of it."""
    inside = _inside(paths)
    return replace(found, code=replace(found.code, paths=tuple(one for one in found.code.paths if inside(one.path))))


def _inside(paths: list[str]) -> Callable[[str], bool]:
    if not paths or "" in paths:
        return lambda _: True
    return lambda path: any(path == one or path.startswith(f"{one}/") for one in paths)


def _patch(sides: Sides, code: CodeDiff, paths: list[str]) -> Iterator[bytes]:
    from instar.engine.differences.unified import unified
    from instar.store.tree_changes import changed

    if code.after is None:
        return
    inside = _inside(paths)
    for change in changed(sides.nodes, code.before, code.after).changes:
        if inside(change.path):
            yield from unified(sides.blobs, change)
