"""Brings the workspace to the tree of a restore that was begun: a rollback's, or an accepted mutation's."""

from __future__ import annotations

from instar.engine.changes import Judged, observed
from instar.engine.restoring.restore import read_plan, roll_forward
from instar.engine.runtime import Runtime
from instar.fsm.decisions import finish_of, restored_key
from instar.fsm.events import MutationAccepted, RollbackStarted
from instar.fsm.state import AgentState
from instar.fsm.words import Digest
from instar.store.failpoints import failpoint
from instar.store.log import Decide, Pending
from instar.store.tree_changes import changed


def roll_forward_restore(runtime: Runtime, state: AgentState, *, fresh: bool = False) -> Decide:
    """Rolls a begun restore forward; idempotent, and safe against a second process that does the same.

    Args:
        runtime: the workspace.
        state: the state in which it was begun.
        fresh: this process has just staged it, and nothing was moved yet.

    Returns:
        What gives the events that record it, from the state in which they are recorded.
    """
    if state.restoring is None:
        return lambda _: []
    begun = runtime.reader.get(state.restoring.seq)
    event = begun.event
    assert isinstance(event, RollbackStarted | MutationAccepted)
    plan = read_plan(runtime.blobs, event.plan)
    staging = runtime.workspace.staging / event.plan
    displaced = tuple(roll_forward(runtime.workspace.root, staging, plan, runtime.blobs, fresh=fresh))
    failpoint("rollback.files")
    if isinstance(event, RollbackStarted):
        runtime.models.activate(event.checkpoint)
        failpoint("rollback.checkpoint")
    finished = finish_of(begun.seq, event, displaced, state.policy.mutation.probation)
    outcome = Pending(finished, cause=begun.seq, key=restored_key(begun.seq))
    return lambda now: [outcome, *_own_changes(runtime, now, finished.tree)]


def _own_changes(runtime: Runtime, state: AgentState, tree: Digest) -> list[Pending]:
    """Records what the restore changed, each change caused by the event that finished it."""
    if state.tree is None:
        return []
    judged = Judged(state)
    pending = []
    for distance, change in enumerate(changed(runtime.capture.nodes, state.tree, tree).changes, 1):
        event = observed(change.path, change.before, change.after, tree, state.policy.monitored, judged)
        pending.append(Pending(event, after=distance))
    return pending
