"""Sets up a workspace: the log's first event says what stood there when Instar came."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from instar.fsm.errors import ConfigError, LogUnavailable
from instar.fsm.events import InputSkipped, WorkspaceInitialized
from instar.fsm.record import Recorded
from instar.fsm.words import Seq
from instar.store.durable import make_folder, write_durably
from instar.store.locate import PACKAGED, locate_model
from instar.store.log import Pending, create_log
from instar.store.lost_log import refuse_lost
from instar.store.reader import LogReader

from .embedding.soundness import refuse_unsound
from .last_settings import keep_settings
from .runtime import Runtime
from .settings import Settings, load_settings
from .version import VERSION
from .workspace import Workspace


def initialize(root: Path, *, settings: Settings | None = None, with_model: bool = True) -> Recorded | None:
    """Sets up the folder of an agent; does nothing where that is done already.

    Args:
        root: the folder.
        settings: read from the folder and the environment when absent.
        with_model: take the weights into the store; without them nothing can be embedded or trained.

    Returns:
        The first event, or None if the workspace was set up before.

    Raises:
        ConfigError: there is no such folder, or the weights cannot be found, give no vectors that mean something, or
            cannot be loaded below its path.
        LogForeign: a file stands in the log's place that is no log of ours.
        LogLost: the log that was here is gone or was emptied.
        LogUnavailable: the disk is full or read-only.
    """
    if not root.is_dir():
        raise ConfigError(f"{root} is no folder: give the folder of the agent's code")
    settings = settings or load_settings(root, os.environ)
    if with_model:
        located = locate_model(settings.model)  # before anything is written
        _require_readable_weights(root)
    workspace = Workspace(root, settings.paths, settings.log_url)
    if with_model and settings.model != PACKAGED and not workspace.exists:
        refuse_unsound(located)
    try:
        if not workspace.stream.exists():
            refuse_lost(workspace.log)
        make_folder(workspace.home)
        workspace.home.chmod(0o700)
        (workspace.home / ".gitignore").write_text("*\n", encoding="utf-8")
        if settings.log_url and not workspace.exists:
            write_durably(workspace.stream, f"instar_{uuid.uuid4().hex[:16]}\n".encode())
    except OSError as error:
        raise LogUnavailable(f"{workspace.home} cannot be written: {error}. Give write permission there.") from error
    keep_settings(workspace.root)
    create_log(workspace.place)
    runtime = Runtime(root, actor="cli", settings=settings)
    try:
        return _first_event(runtime, settings, with_model)
    finally:
        runtime.close()


def model_of(reader: LogReader) -> str:
    """Names the weights that a workspace was set up with; empty if it has no model."""
    first = reader.get(Seq(1)).event
    return first.model if isinstance(first, WorkspaceInitialized) else ""


def _require_readable_weights(root: Path) -> None:
    """Refuses a folder in which the weights could be stored, and then not be loaded: safetensors takes UTF-8 alone."""
    try:
        str(root.resolve()).encode()
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"the path {root.resolve()} is no UTF-8, so no model can be loaded from below it: rename it, or "
            "set it up with `instar init --no-model`"
        ) from error


def _first_event(runtime: Runtime, settings: Settings, with_model: bool) -> Recorded | None:
    if runtime.state.head:
        return None
    with runtime.files.held():
        checkpoint = runtime.models.import_weights(settings.model) if with_model else None
        digest = runtime.capture.look(full=True)
        event = WorkspaceInitialized(
            workspace=uuid.uuid4().hex,
            engine=VERSION,
            tree=digest,
            checkpoint=checkpoint,
            model=settings.model if with_model else "",
            policy=runtime.settings.policy,
        )
        skipped = [
            Pending(InputSkipped(source="watcher", subject=path, reason=reason, tree=digest))
            for path, reason in sorted(runtime.capture.unmanaged().items())
        ]
        records = runtime.log.transact(lambda state: [] if state.head else [Pending(event), *skipped])
        if records:
            runtime.models.activate(checkpoint)
    return records[0] if records else None
