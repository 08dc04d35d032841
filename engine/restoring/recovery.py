"""Rolls forward what was begun and cut off: before anything else is done in a workspace."""

from __future__ import annotations

from pathlib import Path

from instar.engine.effects.restoring import roll_forward_restore
from instar.engine.runtime import Runtime
from instar.fsm.record import Recorded
from instar.store.failpoints import failpoint

from .restore import clear_staging
from .staging import sweep


def finish_begun(runtime: Runtime) -> bool:
    """Rolls a cut-off restore forward, if there is one, before anything else is done."""
    staging = runtime.workspace.staging
    if runtime.state.restoring is None and not _holds_anything(staging):
        return False
    with runtime.files.held():
        done = bool(roll_forward_begun(runtime))
        if runtime.state.restoring is None:
            sweep(staging, runtime.blobs)
        return done


def _holds_anything(folder: Path) -> bool:
    try:
        return any(folder.iterdir())
    except FileNotFoundError:
        return False


def roll_forward_begun(runtime: Runtime, *, fresh: bool = False) -> list[Recorded]:
    """Finishes the restore that was begun, if any; gives what was recorded. The caller holds the agent's files."""
    state = runtime.state
    if state.restoring is None:
        return []
    record = roll_forward_restore(runtime, state, fresh=fresh)
    records = runtime.log.transact(lambda now: record(now) if now.restoring == state.restoring else [])
    failpoint("rollback.finished")
    clear_staging(runtime.workspace.staging / state.restoring.plan, runtime.blobs)
    return records
