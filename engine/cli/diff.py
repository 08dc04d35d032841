"""``instar diff``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec.structs import replace

from .output import Json, Root, emit, runtime_at

if TYPE_CHECKING:
    from instar.engine.differences.state_diff import StateDiff
    from instar.engine.runtime import Runtime
    from instar.fsm.words import Digest, Seq


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
    """Show what differs between two points: code line by line, checkpoint, memory, rewards, policy."""
    from instar.engine.differences.state_diff import compare_states
    from instar.engine.references import is_reference, resolve
    from instar.engine.restoring.restore_path import tree_path

    from .diff_output import code_lines, lines_of

    runtime = runtime_at(workspace)
    rest = list(more or ())
    b = rest.pop(0) if rest and is_reference(rest[0]) else None
    root, start = runtime.workspace.root, Path.cwd() if workspace is None else None
    paths = [tree_path(root, path, start) for path in rest]
    try:
        first = resolve(runtime.reader, a)
        last, tree = _end(runtime, b)
        found = compare_states(runtime.reader, runtime.blobs, first, last, tree=tree)
        found = _within(found, paths)
        text = ""
        if name_only:
            text = "\n".join(one.path for one in found.code.paths)
        elif not json:
            code = code_lines(found.code) if stat else _unified(runtime, found, paths)
            told = code if paths else [*([] if stat else code), *lines_of(found, code if stat else None)]
            text = "\n".join(told)
    finally:
        runtime.close()
    emit("diff", {"same": found.same, "diff": found}, as_json=json, text=text)


def _end(runtime: Runtime, b: str | None) -> tuple[Seq, Digest | None]:
    """Gives the second point; without a reference the head, and the tree of the folder as it stands."""
    from instar.engine.references import resolve

    if b is not None:
        return resolve(runtime.reader, b), None
    with runtime.files.held():
        state = runtime.state
        return state.head, runtime.capture.look(known=state.tree)


def _within(found: StateDiff, paths: list[str]) -> StateDiff:
    """Keeps what differs at or below some paths, or all of it."""
    inside = _inside(paths)
    return replace(found, code=replace(found.code, paths=tuple(one for one in found.code.paths if inside(one.path))))


def _inside(paths: list[str]) -> Callable[[str], bool]:
    if not paths or "" in paths:
        return lambda _: True
    return lambda path: any(path == one or path.startswith(f"{one}/") for one in paths)


def _unified(runtime: Runtime, found: StateDiff, paths: list[str]) -> list[str]:
    from instar.engine.differences.unified import unified
    from instar.store.tree_changes import changed

    if found.code.after is None:
        return []
    inside = _inside(paths)
    moved = changed(runtime.capture.nodes, found.code.before, found.code.after).changes
    lines = [line for change in moved if inside(change.path) for line in unified(runtime.blobs, change)]
    return [line.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for line in lines]
