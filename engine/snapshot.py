"""Named points to which a user can return."""

from __future__ import annotations

import re

from instar.fsm.decisions import snapshot_of
from instar.fsm.errors import ConfigError, InputRefused
from instar.fsm.events import SnapshotTaken
from instar.fsm.record import Recorded
from instar.fsm.retention import SAFETY
from instar.fsm.state import AgentState
from instar.store.log import Pending

from .runtime import Runtime
from .watcher import rescan

RULE = "up to 100 letters, digits, dots, dashes and underscores, the first a letter or a digit"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def take_snapshot(runtime: Runtime, name: str, reason: str = "asked for", *, full: bool = False) -> Recorded:
    """Looks at every file, stores what changed, and names the point. A snapshot that fails is an error.

    Args:
        runtime: the workspace.
        name: what to call it.
        reason: why it is taken.
        full: read every file, whatever its times say.

    Raises:
        ConfigError: the name cannot be used.
        InputRefused: the name is one that rollbacks give.
        LogUnavailable: the disk is full or read-only.
    """
    if not NAME.fullmatch(name):
        raise ConfigError(f"{name!r} is no name for a snapshot: {RULE}")
    if name.startswith(SAFETY):
        raise InputRefused(
            f"{name!r} begins as the snapshots do that rollbacks take ({SAFETY}N): `last-good` passes such a point "
            "over, and `instar gc` keeps only the latest of them. Choose another name."
        )
    from .restoring.rollback import finish_begun

    finish_begun(runtime)
    with runtime.files.held():
        rescan(runtime, full=full)
        return runtime.log.transact(lambda state: [Pending(taken(state, name, reason))])[0]


def taken(state: AgentState, name: str, reason: str) -> SnapshotTaken:
    """Names the present point.

    Raises:
        ConfigError: nothing was captured yet.
    """
    found = snapshot_of(state, name, reason)
    if found is None:
        raise ConfigError("nothing was captured yet: run `instar init` first")
    return found
