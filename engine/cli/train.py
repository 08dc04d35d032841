"""``instar train``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from .asked import actor
from .output import Json, Root, emit, reader_at, runtime_at, workspace_at
from .run import run_once

_EXIT_CODES = {"failed": 1, "rejected": 5, "undecided": 5}


def command(
    note: Annotated[str, typer.Option(help="Why, for whoever reads the log later.")] = "",
    recipe: Annotated[
        str,
        typer.Option(help="What is to be otherwise than configured: NAME=VALUE,… or a *.toml or *.json file."),
    ] = "",
    weights: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Train nothing: have weights from elsewhere judged. A model's folder, package or hub name, or "
            "checkpoint:PREFIX for an earlier candidate.",
        ),
    ] = "",
    queue: Annotated[bool, typer.Option("--queue", help="Only queue the task; a worker takes it up.")] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="End the training in progress at its next step.")] = False,
    workspace: Root = None,
    json: Json = False,
) -> None:
    """Ask for a retrain ({"type": "self_train"}), or for weights to be judged, and run it unless a worker does.

    Exit code 1 if it failed or was cancelled, 5 if the gate did not admit it.
    """
    if cancel:
        _cancel(workspace, json=json)
        return
    from instar.engine.training.recipe import parse_recipe
    from instar.fsm.errors import InputRefused

    try:
        parts = parse_recipe(recipe)
    except ValueError as error:
        raise InputRefused(f"the recipe cannot be used: {error}. docs/training.md lists its parts.") from error
    order({"note": note, "recipe": parts, "weights": weights}, workspace, queue=queue, as_json=json)


def order(asked: Mapping[str, Any], workspace: Path | None, *, queue: bool, as_json: bool) -> None:
    """Orders a retrain, runs it unless a worker does, and tells what became of it.

    Args:
        asked: note, recipe and weights, as the task has them.
        workspace: the folder of the agent, or one below it.
        queue: leave it to a worker.
        as_json: print one envelope.

    Raises:
        InputRefused: the recipe or the weights cannot be used; nothing was recorded.
        Exit: with 1 if it failed, with 5 if the gate did not admit it.
    """
    from instar.engine.describe import describe
    from instar.engine.face.learning import outcome_of
    from instar.engine.status import worker_runs
    from instar.engine.tool_executor import execute
    from instar.fsm.events import CheckpointTrained, DatasetGenerated, EffectFailed, OutcomeRewarded
    from instar.fsm.words import Seq

    runtime = runtime_at(workspace)
    executed = execute(runtime, {"type": "self_train", **asked}, source=actor())
    if queue or worker_runs(runtime.workspace):
        runtime.close()
        text = f"queued as event {executed.event}; the worker takes it up"
        emit("train", {"event": executed.event, "ran": False}, as_json=as_json, lines=[text])
        return
    run_once(workspace, quiet=as_json)
    kinds = (DatasetGenerated, CheckpointTrained, OutcomeRewarded, EffectFailed)
    records = list(runtime.reader.read(executed.event + 1, types=kinds))
    found = outcome_of(runtime.reader, Seq(executed.event))
    runtime.close()
    content = {
        "event": executed.event,
        "ran": True,
        "verdict": found.verdict,
        "reason": found.reason,
        "outcome": [record.event for record in records],
    }
    lines = [f"{type(record.event).__name__:<18} {describe(record.event)}" for record in records]
    emit("train", content, as_json=as_json, lines=[*lines, f"{found.verdict}: {found.reason}"])
    if code := _EXIT_CODES.get(found.verdict):
        raise typer.Exit(code)


def _cancel(workspace: Path | None, *, json: bool) -> None:
    from instar.engine.training.cancelling import ask_to_cancel

    reader = reader_at(workspace)
    asked = ask_to_cancel(workspace_at(workspace), reader.state_at())
    text = f"the training that answers event {asked} ends at its next step; the log will say so"
    emit("train", {"event": asked, "cancelling": True}, as_json=json, lines=[text])
