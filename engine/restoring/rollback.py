"""Puts code, checkpoint and memory back to where they stood at an event. A new event, never an erasure."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from msgspec import Struct
from msgspec.structs import replace

from instar.engine.memory.space_switch import Switch, prepare_switch
from instar.engine.references import resolve
from instar.engine.runtime import Runtime
from instar.engine.snapshot import taken
from instar.engine.watcher import rescan
from instar.fsm.decisions import Return, return_to
from instar.fsm.errors import BlobMissing, Diverged, LogUnavailable, PositionConflict
from instar.fsm.events import PARTS, Part, RollbackFinished
from instar.fsm.record import Recorded
from instar.fsm.retention import SAFETY
from instar.fsm.state import AgentState
from instar.fsm.words import Digest, Seq
from instar.store.failpoints import failpoint
from instar.store.log import Pending

from .recovery import finish_begun, roll_forward_begun
from .restore import check_plan, stage, write_plan
from .rollback_plan import RollbackPlan, check_digest, check_same, chosen, plan_from, plan_return, plan_rollback
from .staging import sweep

ATTEMPTS = 4

__all__ = [
    "RollbackPlan",
    "RolledBack",
    "carry_out",
    "check_digest",
    "finish_begun",
    "plan_return",
    "plan_rollback",
    "roll_back",
]


class RolledBack(Struct, frozen=True, kw_only=True):
    """What a rollback did.

    Attributes:
        target: the event that it led back to.
        safety: the snapshot that was taken first, as ``snapshot:`` names it.
        started: its RollbackStarted, which a later ``undo`` names.
        finished: its RollbackFinished.
        changed: how many files were added, changed or deleted.
        displaced: how many files somebody wrote meanwhile; their bytes are kept (``instar show``).
        checkpoint: the active one from here on.
        parts: what was brought back.
        paths: the files and folders that alone were; none where all were.
        undoes: the RollbackStarted that was taken back.
    """

    target: Seq
    safety: str
    started: Seq
    finished: Seq
    changed: int
    displaced: int
    checkpoint: Digest | None
    parts: tuple[Part, ...] = PARTS
    paths: tuple[str, ...] = ()
    undoes: Seq | None = None


def roll_back(
    runtime: Runtime,
    wanted: str | int | RollbackPlan,
    reason: str = "asked for",
    *,
    only: Collection[Part] = (),
    plan: str | None = None,
) -> RolledBack:
    """Rolls code, checkpoint and memory back to a reference; ``undo`` takes it back.

    Args:
        runtime: the workspace.
        wanted: where to; or a plan, which is then carried out as it was made, or not at all.
        reason: recorded with it.
        only: what alone is brought back; all by default.
        plan: the digest of a plan that was looked at, or its first digits (8 at least).

    Raises:
        ConfigError, BlobMissing, BlobCorrupt, RollbackRefused: as ``plan_rollback``; nothing was moved.
        Diverged: the plan would be another now, or files change while they are looked at; nothing was moved.
    """
    if isinstance(wanted, RollbackPlan):
        return carry_out(runtime, wanted.target, replace(wanted.asked, reason=reason), seen=wanted)
    asked = Return(parts=chosen(only), reason=reason)
    finish_begun(runtime)
    return carry_out(runtime, resolve(runtime.reader, wanted), asked, digest=plan)


def carry_out(
    runtime: Runtime,
    target: Seq,
    asked: Return,
    *,
    digest: str | None = None,
    seen: RollbackPlan | None = None,
    first: Pending | None = None,
) -> RolledBack:
    """Returns to an event; raises as ``roll_back``.

    Args:
        runtime: the workspace.
        target: where to.
        asked: what is brought back.
        digest: the digest of the plan that was looked at, or its beginning.
        seen: that plan itself.
        first: what is recorded together with the beginning, in front of it.
    """
    finish_begun(runtime)
    workspace = runtime.workspace
    with runtime.files.held():
        sweep(workspace.staging, runtime.blobs)
        rescan(runtime)  # whatever is brought back: the safety snapshot names what stands
        planned = plan_from(runtime, runtime.state, runtime.state.tree, target, asked)
        check_digest(planned, digest)
        if seen is not None:
            check_same(planned, seen)
        check_plan(workspace.root, planned.plan, runtime.blobs, contents=False)
        if planned.checkpoint and planned.checkpoint != planned.checkpoint_now:
            runtime.models.folder(planned.checkpoint)
        content = write_plan(runtime.blobs, planned.plan)
        fresh = stage(workspace.root, workspace.staging / content, planned.plan, runtime.blobs)
        failpoint("rollback.staged")
        try:
            begun = _begin(runtime, planned, content, [first] if first else [])
        except PositionConflict as error:
            if isinstance(error.__cause__, BlobMissing):  # collected, while this process remembered what it held
                raise error.__cause__ from error
            raise
        failpoint("rollback.started")
        try:
            records = roll_forward_begun(runtime, fresh=fresh)
        except LogUnavailable as error:
            raise LogUnavailable(
                f"{error} The rollback itself is event {begun[-1].seq}: the next command that works finishes it, such "
                "as `instar run --once`.",
                in_doubt=error.in_doubt,
            ) from error
    finished = records[0].event
    assert isinstance(finished, RollbackFinished)
    return RolledBack(
        target=target,
        safety=_safety(begun[1 if first else 0].seq),
        started=begun[-1].seq,
        finished=records[0].seq,
        changed=len(planned.plan.steps),
        displaced=len(finished.displaced),
        checkpoint=planned.checkpoint,
        parts=asked.parts,
        paths=asked.paths,
        undoes=asked.undoes,
    )


def _safety(seq: Seq) -> str:
    return f"{SAFETY}{seq}"


def _begin(runtime: Runtime, planned: RollbackPlan, content: Digest, first: Sequence[Pending]) -> list[Recorded]:
    """Records the safety snapshot, the vectors that memory lacks, and the beginning, all together, after ``first``.

    What the worker embeds while vectors are made may lack them too: then they are made for that as well.
    """
    target, asked = planned.target, planned.asked
    then = runtime.reader.state_at(target)
    switch = Switch()
    for _ in range(ATTEMPTS):
        switch = prepare_switch(runtime, planned, switch)

        def begin(now: AgentState, switch: Switch = switch) -> Sequence[Pending]:
            event = return_to(then, now, asked, content, grafted=planned.tree)
            assert event is not None, "a plan has a tree"
            if now.tree != planned.tree_now or now.checkpoint != planned.checkpoint_now:
                raise Diverged("another process changed the workspace meanwhile. Nothing was moved; start again.")
            if not switch.covers(runtime.reader, runtime.blobs, asked, event):
                return []
            place = Seq(now.head + 1 + len(first))
            safety = taken(now, _safety(place), f"before the rollback to event {target}")
            again = [Pending(one) for one in switch.embedded]
            return [*first, Pending(safety), *again, Pending(event, after=1)]

        begun = runtime.log.transact(begin)
        if begun:
            if switch.embedded:
                runtime.models.forget_kept()
            return begun
    raise Diverged("memory grows faster than it can be embedded again. Nothing was moved; stop the worker, try again.")
