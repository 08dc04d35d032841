"""Puts code, checkpoint and memory back to where they stood at an event. A new event, never an erasure."""

from __future__ import annotations

from msgspec import Struct

from instar.fsm.decisions import return_to, tree_at
from instar.fsm.errors import ConfigError
from instar.fsm.events import RollbackFinished
from instar.fsm.record import Recorded
from instar.fsm.state import AgentState
from instar.fsm.words import Digest, Seq
from instar.store.failpoints import failpoint
from instar.store.log import Pending
from instar.store.trees import read_tree

from .effects.restoring import roll_forward_restore
from .ignore import spared_by
from .references import SAFETY, resolve
from .restore import Plan, check_plan, clear_staging, make_plan, stage, write_plan
from .runtime import Runtime
from .snapshot import take_snapshot
from .watcher import rescan


class RollbackPlan(Struct, frozen=True, kw_only=True):
    """What a rollback would do: nothing has moved yet."""

    target: Seq
    tree: Digest
    checkpoint: Digest | None
    checkpoint_now: Digest | None
    memory_rows_hidden: bool
    plan: Plan

    @property
    def is_empty(self) -> bool:
        """Says whether everything is at the target already."""
        return not self.plan.steps and self.checkpoint == self.checkpoint_now and not self.memory_rows_hidden


class RolledBack(Struct, frozen=True, kw_only=True):
    """What a rollback did."""

    target: Seq
    safety: str
    started: Seq
    finished: Seq
    changed: int
    displaced: int
    checkpoint: Digest | None


def finish_begun(runtime: Runtime) -> bool:
    """Rolls a cut-off restore forward, if there is one, before anything else is done."""
    with runtime.files.held():
        return bool(_roll_forward(runtime))


def _roll_forward(runtime: Runtime) -> list[Recorded]:
    """Finishes the restore that was begun, if any; gives what was recorded. The caller holds the agent's files."""
    state = runtime.state
    if state.restoring is None:
        return []
    record = roll_forward_restore(runtime, state)
    records = runtime.log.transact(lambda now: record(now) if now.restoring == state.restoring else [])
    clear_staging(runtime.workspace.staging / state.restoring.plan, runtime.blobs)
    return records


def plan_rollback(runtime: Runtime, reference: str | int) -> RollbackPlan:
    """Computes what a rollback would add, change and delete, after a look at every file.

    Raises:
        ConfigError: the reference names no position.
        Diverged: files change while they are looked at.
        BlobMissing, BlobCorrupt: the store lacks what the target needs.
        RollbackRefused: something that is not in the store stands in the way.
    """
    finish_begun(runtime)
    target = resolve(runtime.reader, reference)
    with runtime.files.held():
        rescan(runtime, full=True)
        return _plan(runtime, target)


def _plan(runtime: Runtime, target: Seq) -> RollbackPlan:
    now, then = runtime.state, runtime.reader.state_at(target)
    tree = tree_at(then)
    if now.tree is None or tree is None:
        raise ConfigError(f"no tree was captured at event {target}: choose a later one")
    wanted = read_tree(runtime.blobs, tree)
    spared = spared_by(wanted, runtime.blobs, runtime.capture.ignore)
    plan = make_plan(read_tree(runtime.blobs, now.tree), wanted, spared)
    check_plan(runtime.workspace.root, plan, runtime.blobs)
    return RollbackPlan(
        target=target,
        tree=tree,
        checkpoint=then.checkpoint,
        checkpoint_now=now.checkpoint,
        memory_rows_hidden=now.memory != then.memory,
        plan=plan,
    )


def roll_back(runtime: Runtime, reference: str | int, reason: str = "asked for") -> RolledBack:
    """Rolls code, checkpoint and memory back to a reference; its own safety snapshot can undo it.

    Raises:
        ConfigError, Diverged, BlobMissing, BlobCorrupt, RollbackRefused: as ``plan_rollback``; nothing was moved.
    """
    finish_begun(runtime)
    target = resolve(runtime.reader, reference)
    with runtime.files.held():
        safety = f"{SAFETY}{runtime.reader.head() + 1}"
        take_snapshot(runtime, safety, f"before the rollback to event {target}")
        planned = _plan(runtime, target)
        runtime.models.activate(runtime.state.checkpoint)
        if planned.checkpoint:
            runtime.models.folder(planned.checkpoint)
        content = write_plan(runtime.blobs, planned.plan)
        stage(runtime.workspace.root, runtime.workspace.staging / content, planned.plan, runtime.blobs)
        failpoint("rollback.staged")
        started = runtime.log.transact(lambda state: [_start(runtime, state, planned, content, reason)])[0]
        failpoint("rollback.started")
        records = _roll_forward(runtime)
    finished = records[0].event
    assert isinstance(finished, RollbackFinished)
    return RolledBack(
        target=target,
        safety=safety,
        started=started.seq,
        finished=records[0].seq,
        changed=len(planned.plan.steps),
        displaced=len(finished.displaced),
        checkpoint=planned.checkpoint,
    )


def _start(runtime: Runtime, state: AgentState, planned: RollbackPlan, content: Digest, reason: str) -> Pending:
    event = return_to(runtime.reader.state_at(planned.target), content, reason)
    assert event is not None, "a plan has a tree"
    return Pending(event, cause=state.head)
