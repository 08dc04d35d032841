"""``instar init``."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .output import Json, Root, emit

if TYPE_CHECKING:
    from instar.engine.workspace import Workspace


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
    from instar.engine.workspace import Workspace
    from instar.fsm.events import WorkspaceInitialized

    root = (workspace or Path.cwd()).resolve()
    settings = load_settings(root, os.environ, model=model)
    record = initialize(root, settings=settings, with_model=not no_model)
    if record is None:
        _refuse_another(model, Workspace(root, settings.paths, settings.log_url))
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


def _refuse_another(model: str | None, workspace: Workspace) -> None:
    """Refuses a model that is not the one of the log: nothing else would say that it is not taken."""
    from instar.engine.initialize import model_of
    from instar.fsm.errors import ConfigError
    from instar.store.reader import LogReader

    if model is None:
        return
    with closing(LogReader(workspace.place)) as reader:
        had = model_of(reader)
    if had != model:
        raise ConfigError(
            f"{workspace.root} was set up before, {f'with the model {had}' if had else 'without a model'}, and its log "
            "says so for good: nothing was done. For another one keep .instar elsewhere, then init anew."
        )
