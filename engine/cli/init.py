"""``instar init``."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .output import Json, emit, note, say

if TYPE_CHECKING:
    from instar.engine.settings import Settings
    from instar.engine.workspace import Workspace
    from instar.fsm.words import Digest


def command(
    workspace: Annotated[
        Path | None,
        typer.Option("-C", "--workspace", help="The folder of the agent; by default this one.", callback=note),
    ] = None,
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
    from instar.fsm.errors import ConfigError
    from instar.fsm.events import WorkspaceInitialized

    root = (workspace or Path.cwd()).resolve()
    settings = load_settings(root, os.environ, model=model)
    record = initialize(root, settings=settings, with_model=not no_model)
    if record is None:
        had = _had(Workspace(root, settings.paths, settings.log_url))
        if not had and model is not None and not no_model:
            _adopt(root, settings, as_json=json)
            return
        if model not in (None, had):
            raise ConfigError(
                f"{root} was set up before, with the model {had}, and its log says so for good: nothing was done. "
                "`instar train --weights` has another one judged; or keep .instar elsewhere, then init anew."
            )
        hint = "" if had or no_model else " It has no model; `instar init --model NAME` gives it one."
        content: dict[str, Any] = {"root": str(root), "created": False}
        emit("init", content, as_json=json, lines=[f"{root} was set up before; nothing done.{hint}"])
        return
    event = record.event
    assert isinstance(event, WorkspaceInitialized)
    here = _any_monitored(Workspace(root, settings.paths, settings.log_url), event.tree, event.policy.monitored)
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
        *([] if here else ["              none of these is here: name yours in instar.toml, [policy] monitored"]),
        "Next: edit a file, then `instar run --once` and `instar log`.",
    ]
    if not json and (above := _above(root)):
        say(f"{above}, above it, has a log of its own, and records what changes here too.")
    emit("init", content, as_json=json, lines=lines)


def _above(root: Path) -> Path | None:
    """Gives the workspace that a folder lies in, beside its own."""
    from instar.engine.workspace import find_workspace
    from instar.fsm.errors import InstarError

    try:
        return find_workspace(root.parent) if root.parent != root else None
    except InstarError:
        return None


def _any_monitored(workspace: Workspace, tree: Digest, patterns: tuple[str, ...]) -> bool:
    """Says whether a change of any file that stands here would be one of monitored logic."""
    from instar.engine.changes import is_monitored
    from instar.store.blobs import BlobStore
    from instar.store.reader import LogReader
    from instar.store.trees import read_tree

    with closing(LogReader(workspace.place)) as reader:
        blobs = BlobStore(reader.path.with_name("blobs"), reader)
        return any(is_monitored(path, patterns) for path in read_tree(blobs, tree).files)


def _had(workspace: Workspace) -> str:
    """Names the model that a workspace has; empty without one."""
    from instar.engine.initialize import model_of
    from instar.store.reader import LogReader

    with closing(LogReader(workspace.place)) as reader:
        return model_of(reader)


def _adopt(root: Path, settings: Settings, *, as_json: bool) -> None:
    from instar.engine.initialize import adopt_model
    from instar.fsm.events import ModelAdopted

    record = adopt_model(root, settings=settings)
    content: dict[str, Any] = {"root": str(root), "created": False}
    lines = [f"{root} has a model by now; nothing done."]
    if record is not None:
        assert isinstance(record.event, ModelAdopted)
        content |= {"seq": record.seq, "checkpoint": record.event.checkpoint}
        lines = [
            f"{root} has a model from event {record.seq} on: {record.event.checkpoint[:12]}  {record.event.model}",
            "What comes from here on is embedded and remembered; what failed before is learnt from too.",
        ]
    emit("init", content, as_json=as_json, lines=lines)
