"""``instar train``."""

from __future__ import annotations

from typing import Annotated

import typer

from .output import Json, Root, emit, runtime_at
from .run import run_once


def command(
    note: Annotated[str, typer.Option(help="Why, for whoever reads the log later.")] = "",
    queue: Annotated[bool, typer.Option("--queue", help="Only queue the task; a worker takes it up.")] = False,
    workspace: Root = None,
    json: Json = False,
) -> None:
    """Ask for a retrain ({"type": "self_train"}), and run it unless a worker does."""
    from instar.engine.describe import describe
    from instar.engine.status import worker_runs
    from instar.engine.tool_executor import execute
    from instar.fsm.events import CheckpointTrained, DatasetGenerated, OutcomeRewarded

    runtime = runtime_at(workspace)
    executed = execute(runtime, {"type": "self_train", "note": note}, source="cli")
    if queue or worker_runs(runtime.workspace):
        runtime.close()
        text = f"queued as event {executed.event}; the worker takes it up"
        emit("train", {"event": executed.event, "ran": False}, as_json=json, text=text)
        return
    run_once(workspace, quiet=json)
    kinds = (DatasetGenerated, CheckpointTrained, OutcomeRewarded)
    records = list(runtime.reader.read(executed.event + 1, types=kinds))
    runtime.close()
    content = {"event": executed.event, "ran": True, "outcome": [record.event for record in records]}
    lines = [f"{type(record.event).__name__:<18} {describe(record.event)}" for record in records]
    emit("train", content, as_json=json, text="\n".join(lines))
