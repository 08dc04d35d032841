"""Sets up a workspace: the log's first event says what stood there when Instar came."""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path

from instar.fsm.errors import ConfigError, LogUnavailable
from instar.fsm.events import InputSkipped, ModelAdopted, WorkspaceInitialized
from instar.fsm.record import Recorded
from instar.fsm.words import Seq, State
from instar.store.durable import make_folder, write_durably
from instar.store.locate import PACKAGED, locate_model
from instar.store.log import Pending, create_log
from instar.store.lost_log import refuse_lost
from instar.store.reader import LogReader

from .embedding.soundness import refuse_unsound
from .last_settings import keep_settings
from .restoring.recovery import finish_begun
from .runtime import Runtime
from .settings import Settings, load_settings
from .version import VERSION
from .workspace import Workspace

_TRIES, _PAUSE_S = 300, 0.1
"""How often, and how far apart, a machine at rest is waited for."""


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
    workspace = Workspace(root, settings.paths, settings.log_url)
    if with_model:  # before anything is written
        _require_model(root, settings.model, tried=workspace.exists)
    try:
        if not workspace.stream.exists():
            refuse_lost(workspace.log)
        make_folder(workspace.home)
        _close_to_others(workspace.home)
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


def _close_to_others(home: Path) -> None:
    """Lets only its owner enter a folder.

    Raises:
        LogUnavailable: its rights cannot be set, and others could enter it.
    """
    try:
        home.chmod(0o700)
    except OSError as error:
        if home.stat().st_mode & 0o077:
            raise LogUnavailable(
                f"the rights of {home} cannot be set ({error.strerror}), and others may enter it. Put the agent's "
                "folder on a file system that holds rights, which FAT and exFAT do not, or run this as its owner."
            ) from error


def adopt_model(root: Path, *, settings: Settings) -> Recorded | None:
    """Gives a workspace that was set up without a model the one of the settings.

    What is recorded from there on is embedded and remembered; failures from before are learnt from too, since a data
    set is made of the whole log.

    Args:
        root: its folder.
        settings: name the weights.

    Returns:
        The event, or None if it has a model.

    Raises:
        ConfigError: as ``initialize``.
        LogUnavailable: it cannot be recorded, or a worker is at work all the time.
    """
    _require_model(root, settings.model)
    runtime = Runtime(root, actor="cli", settings=settings)
    try:
        runtime.require_initialized()
        if runtime.state.checkpoint is not None:
            return None
        finish_begun(runtime)
        event = ModelAdopted(checkpoint=runtime.models.import_weights(settings.model), model=settings.model)
        for _ in range(_TRIES):
            records = runtime.log.transact(
                lambda now: [Pending(event)] if now.machine is State.IDLE and now.checkpoint is None else []
            )
            if records:
                runtime.models.activate(event.checkpoint)
                return records[0]
            if runtime.state.checkpoint is not None:
                return None
            time.sleep(_PAUSE_S)
        raise LogUnavailable("the machine is not at rest: wait until `instar status` says Idle, then try again")
    finally:
        runtime.close()


def model_of(reader: LogReader) -> str:
    """Names the weights that a workspace began with; empty if it has no model."""
    if reader.state_at().checkpoint is None:
        return ""
    first = reader.get(Seq(1)).event
    adopted = [record.event for record in reader.tail(1, [ModelAdopted])]
    begun = adopted[0] if adopted else first
    return begun.model if isinstance(begun, WorkspaceInitialized | ModelAdopted) else ""


def _require_model(root: Path, model: str, *, tried: bool = False) -> None:
    """Refuses a model that cannot be found, gives no vectors that mean something, or could not be loaded again."""
    located = locate_model(model)
    _require_readable_weights(root)
    if model != PACKAGED and not tried:
        refuse_unsound(located)


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
