"""``instar snapshot``."""

from __future__ import annotations

from typing import Annotated

import typer

from .output import Json, Root, emit, runtime_at


def command(
    name: Annotated[
        str, typer.Argument(help="Letters, digits, dots, dashes and underscores; first a letter or a digit.")
    ],
    full: Annotated[bool, typer.Option("--full", help="Read every file, whatever its times say.")] = False,
    workspace: Root = None,
    json: Json = False,
) -> None:
    """Store what stands there now, and name the point: `instar rollback snapshot:NAME` returns to it."""
    from instar.engine.snapshot import take_snapshot
    from instar.fsm.events import SnapshotTaken

    runtime = runtime_at(workspace)
    record = take_snapshot(runtime, name, full=full)
    runtime.close()
    event = record.event
    assert isinstance(event, SnapshotTaken)
    text = f"snapshot:{name} is event {record.seq}, tree {event.tree[:12]}"
    emit(
        "snapshot",
        {"seq": record.seq, "name": name, "tree": event.tree, "checkpoint": event.checkpoint},
        as_json=json,
        lines=[text],
    )
