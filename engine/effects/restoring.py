"""Brings the workspace to the tree of a restore that was begun: a rollback's, or an accepted mutation's."""

from __future__ import annotations

from instar.engine.changes import observed
from instar.engine.failpoints import failpoint
from instar.engine.restore import read_plan, roll_forward
from instar.engine.runtime import Runtime
from instar.fsm.events import (
    MutationAccepted,
    MutationApplied,
    RollbackFinished,
    RollbackStarted,
)
from instar.fsm.state import AgentState
from instar.fsm.words import Digest
from instar.store.log import Pending
from instar.store.trees import changes, read_tree


def roll_forward_restore(runtime: Runtime, state: AgentState) -> list[Pending]:
    """Rolls a begun restore forward; idempotent, and safe against a second process that does the same."""
    if state.restoring is None:
        return []
    begun = runtime.reader.get(state.restoring.seq)
    event = begun.event
    assert isinstance(event, RollbackStarted | MutationAccepted)
    plan = read_plan(runtime.blobs, event.plan)
    staging = runtime.workspace.staging / event.plan
    displaced = tuple(roll_forward(runtime.workspace.root, staging, plan, runtime.blobs))
    failpoint("rollback.files")
    finished: RollbackFinished | MutationApplied
    if isinstance(event, RollbackStarted):
        runtime.models.activate(event.checkpoint)
        failpoint("rollback.checkpoint")
        finished = RollbackFinished(
            started=begun.seq, tree=event.tree, checkpoint=event.checkpoint, displaced=displaced
        )
        tree = event.tree
    else:
        finished = MutationApplied(task=event.task, tree=event.tree_after, displaced=displaced)
        tree = event.tree_after
    own = _own_changes(runtime, state, tree)
    return [Pending(finished, cause=begun.seq, key=f"restored:{begun.seq}"), *own]


def _own_changes(runtime: Runtime, state: AgentState, tree: Digest) -> list[Pending]:
    """Records what the restore changed, each change caused by the event that finished it."""
    if state.tree is None:
        return []
    before, after = read_tree(runtime.blobs, state.tree), read_tree(runtime.blobs, tree)
    judged = set(state.judged)
    pending = []
    for distance, change in enumerate(changes(before, after), 1):
        event = observed(change.path, change.before, change.after, tree, state.policy.monitored, judged)
        pending.append(Pending(event, after=distance))
    return pending
