"""Takes the last rollback back: a new rollback to where all stood just before it. The undo of an undo does it again."""

from __future__ import annotations

from instar.engine.runtime import Runtime
from instar.fsm.decisions import undo_of
from instar.fsm.errors import RollbackRefused
from instar.fsm.events import RollbackStarted

from .rollback import RollbackPlan, RolledBack, finish_begun, plan_return, roll_back


def plan_undo(runtime: Runtime) -> RollbackPlan:
    """Computes what taking the last rollback back would do: of the same parts and paths. Records nothing.

    Raises:
        RollbackRefused: there is no rollback to take back, or something that is not in the store stands in the way.
        BlobMissing, BlobCorrupt: the store lacks what stood there.
    """
    finish_begun(runtime)
    last = runtime.reader.tail(1, [RollbackStarted])
    if not last:
        raise RollbackRefused("there is nothing to undo: this log holds no rollback. `instar log` shows what it holds.")
    event = last[0].event
    assert isinstance(event, RollbackStarted)
    target, asked = undo_of(last[0].seq, event)
    return plan_return(runtime, target, asked)


def undo(runtime: Runtime) -> RolledBack:
    """Takes the last rollback back; raises as ``plan_undo``."""
    return roll_back(runtime, plan_undo(runtime), "undo")
