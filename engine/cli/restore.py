"""``instar restore``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .output import DryRun, Json, Root, Yes, emit, runtime_at

if TYPE_CHECKING:
    from instar.engine.restoring.restore_path import Copied
    from instar.engine.runtime import Runtime


def command(
    paths: Annotated[list[str], typer.Argument(help="Files and folders of the agent.")],
    at: Annotated[
        str | None, typer.Option(help="As they stood there: a seq, latest~N, snapshot:NAME, last-good, a time.")
    ] = None,
    displaced: Annotated[
        int | None,
        typer.Option(help="In place of --at: what the restore that ended with this event found there and set aside."),
    ] = None,
    to: Annotated[
        Path | None, typer.Option(help="Write a copy there, where nothing may stand, and leave the agent as it is.")
    ] = None,
    plan: Annotated[
        str | None, typer.Option(help="The plan that -n showed: refuse if it would be another now.")
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    workspace: Root = None,
    json: Json = False,
) -> None:
    """Put single files or folders back as they stood at an event; `instar undo` takes it back."""
    from instar.engine.restoring.restore_path import plan_restore, tree_path
    from instar.engine.restoring.rollback import check_digest
    from instar.fsm.errors import ConfigError

    from .plan_output import run

    runtime = runtime_at(workspace, puts_back=True)
    root, start = runtime.workspace.root, Path.cwd() if workspace is None else None
    named = [tree_path(root, path, start) for path in paths]
    if (at is None) == (displaced is None):
        raise ConfigError("say where from: --at REF, or --displaced SEQ")
    if displaced is not None or to is not None:
        if len(named) != 1:
            raise ConfigError("name one file or folder to copy")
        _copy(runtime, named[0], at, displaced, to, dry_run=dry_run, as_json=json)
        return
    assert at is not None
    planned = plan_restore(runtime, named, at)
    check_digest(planned, plan)
    run("restore", runtime, planned, dry_run=dry_run, yes=yes or plan is not None, as_json=json)


def _copy(
    runtime: Runtime, path: str, at: str | None, displaced: int | None, to: Path | None, *, dry_run: bool, as_json: bool
) -> None:
    import os

    from instar.engine.restoring.restore_path import captured_at, copy_to, displaced_from, give_back_displaced
    from instar.fsm.words import Seq
    from instar.store.paths import decode_path

    own = runtime.workspace.root / os.fsdecode(decode_path(path)) if path else runtime.workspace.root
    place = (to or own.with_name(f"{own.name}.displaced-{displaced}")).absolute()
    if dry_run:
        if displaced is not None:
            displaced_from(runtime, path, Seq(displaced))
        else:
            assert at is not None
            captured_at(runtime, path, at)
        runtime.close()
        emit("restore", {"dry_run": True, "path": path, "place": str(place)}, as_json=as_json, lines=[f"  + {place}"])
        return
    done: Copied
    if displaced is not None:
        done = give_back_displaced(runtime, path, Seq(displaced), place)
    else:
        assert at is not None
        done = copy_to(runtime, path, at, place)
    runtime.close()
    text = f"{done.path or 'the whole tree'} copied to {done.place}: {done.files} files, {done.bytes} bytes"
    emit("restore", done, as_json=as_json, lines=[text])
