"""``instar init``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from .output import Json, Root, emit


def command(
    workspace: Root = None,
    model: Annotated[
        str | None, typer.Option(help="Weights: an installed package of weights, a folder, or a hub name.")
    ] = None,
    no_model: Annotated[
        bool, typer.Option("--no-model", help="Record and roll back code alone; nothing is embedded or trained.")
    ] = False,
    json: Json = False,
) -> None:
    """Set up the folder of an agent: capture its files and its model, and begin the log."""
    from instar.engine.initialize import initialize
    from instar.engine.settings import load_settings
    from instar.fsm.events import WorkspaceInitialized

    root = (workspace or Path.cwd()).resolve()
    settings = load_settings(root, os.environ, model=model)
    record = initialize(root, settings=settings, with_model=not no_model)
    if record is None:
        emit(
            "init",
            {"root": str(root), "created": False},
            as_json=json,
            lines=[f"{root} was set up before; nothing done."],
        )
        return
    event = record.event
    assert isinstance(event, WorkspaceInitialized)
    content = {
        "root": str(root),
        "created": True,
        "seq": record.seq,
        "tree": event.tree,
        "checkpoint": event.checkpoint,
    }
    checkpoint = event.checkpoint[:12] if event.checkpoint else "none"
    lines = [
        f"Set up {root}",
        f"  tree        {event.tree[:12]}",
        f"  checkpoint  {checkpoint}  {event.model}",
        f"  monitored   {', '.join(event.policy.monitored)}",
        "Next: edit a file, then `instar run --once` and `instar log`.",
    ]
    emit("init", content, as_json=json, lines=lines)
