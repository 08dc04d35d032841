"""Puts code, checkpoint and memory back to where they stood at an event. A new event, never an erasure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cached_property
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from instar.fsm.decisions import Return, return_to, tree_at
from instar.fsm.errors import BlobMissing, ConfigError, Diverged, PositionConflict
from instar.fsm.events import PARTS, Part, RollbackFinished, Span
from instar.fsm.record import Recorded
from instar.fsm.retention import SAFETY
from instar.fsm.state import AgentState
from instar.fsm.words import Digest, Seq, digest_of
from instar.store.failpoints import failpoint
from instar.store.log import Pending
from instar.store.tree_changes import changed, find_path, graft

from .effects.restoring import roll_forward_restore
from .ignore import Ignore, spared_by
from .memory_rows import RowName
from .plan import Plan, Step, plan_changes
from .references import resolve
from .restore import check_plan, clear_staging, stage, write_plan
from .runtime import Runtime
from .snapshot import taken
from .space_switch import Switch, prepare_switch
from .staging import sweep
from .watcher import rescan

ATTEMPTS = 4
NAMED_MAX = 3
DIGITS_MIN = 8


class RollbackPlan(Struct, frozen=True, kw_only=True, dict=True):
    """What a rollback would do: nothing has moved yet.

    Attributes:
        target: the event to return to.
        asked: what is brought back.
        tree: the tree that is to stand; ``tree_now`` the one that stands.
        checkpoint: the checkpoint that is to be active; ``checkpoint_now`` the one that is.
        memory: the spans of the log whose rows are to be live; ``memory_now`` those that are.
        plan: every add, change and delete.
        to_embed: rows of memory that have no vector in the space that is to be active, and get one first.
    """

    target: Seq
    asked: Return
    tree: Digest
    tree_now: Digest
    checkpoint: Digest | None
    checkpoint_now: Digest | None
    memory: tuple[Span, ...]
    memory_now: tuple[Span, ...]
    plan: Plan
    to_embed: tuple[RowName, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Says whether everything is at the target already."""
        same = self.checkpoint == self.checkpoint_now and self.memory == self.memory_now
        return same and not (self.plan.steps or self.plan.make or self.plan.unmake)

    @cached_property
    def digest(self) -> Digest:
        """Names what would move: two plans of the same name do the same. What is left alone is no part of it."""
        moved = (
            self.target,
            replace(self.asked, reason=""),
            replace(self.plan, kept={}),
            (self.checkpoint_now, self.checkpoint),
            self.memory,
        )
        return digest_of(msgspec.json.encode(moved, order="sorted"))


class RolledBack(Struct, frozen=True, kw_only=True):
    """What a rollback did."""

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


def finish_begun(runtime: Runtime) -> bool:
    """Rolls a cut-off restore forward, if there is one, before anything else is done."""
    staging = runtime.workspace.staging
    if runtime.state.restoring is None and not _holds_anything(staging):
        return False
    with runtime.files.held():
        done = bool(_roll_forward(runtime))
        if runtime.state.restoring is None:
            sweep(staging, runtime.blobs)
        return done


def _holds_anything(folder: Path) -> bool:
    try:
        return any(folder.iterdir())
    except FileNotFoundError:
        return False


def _roll_forward(runtime: Runtime, *, fresh: bool = False) -> list[Recorded]:
    """Finishes the restore that was begun, if any; gives what was recorded. The caller holds the agent's files."""
    state = runtime.state
    if state.restoring is None:
        return []
    record = roll_forward_restore(runtime, state, fresh=fresh)
    records = runtime.log.transact(lambda now: record(now) if now.restoring == state.restoring else [])
    failpoint("rollback.finished")
    clear_staging(runtime.workspace.staging / state.restoring.plan, runtime.blobs)
    return records


def chosen(only: Collection[Part]) -> tuple[Part, ...]:
    """Gives the parts that are brought back, in their order; all of them when none is named.

    Raises:
        ConfigError: there is no such part.
    """
    unknown = sorted(set(only) - set(PARTS))
    if unknown:
        raise ConfigError(f"{unknown[0]!r} is nothing that can be rolled back alone. Give {', '.join(PARTS)}.")
    return tuple(part for part in PARTS if not only or part in only)


def plan_rollback(runtime: Runtime, reference: str | int, *, only: Collection[Part] = ()) -> RollbackPlan:
    """Computes what a rollback would add, change and delete, after a look at every file. Records nothing.

    Args:
        runtime: the workspace.
        reference: where to.
        only: what alone is brought back: ``code``, ``checkpoint``, ``memory``; all by default.

    Raises:
        ConfigError: the reference names no position, or there is no such part.
        Diverged: files change while they are looked at.
        BlobMissing, BlobCorrupt: the store lacks what the target needs.
        RollbackRefused: something that is not in the store stands in the way, or memory could not follow.
    """
    asked = Return(parts=chosen(only))
    finish_begun(runtime)
    return plan_return(runtime, resolve(runtime.reader, reference), asked)


def plan_return(runtime: Runtime, target: Seq, asked: Return) -> RollbackPlan:
    """Computes what a return to an event would do; raises as ``plan_rollback``."""
    with runtime.files.held():
        state = runtime.state
        tree = runtime.capture.look(known=state.tree) if "code" in asked.parts else state.tree
        planned = _plan(runtime, state, tree, target, asked)
        check_plan(runtime.workspace.root, planned.plan, runtime.blobs)
        return planned


def _rules_at(runtime: Runtime, then: AgentState) -> Ignore:
    """Gives the rules under which a tree was captured; those of today where the log does not tell."""
    recorded = then.policy.capture
    return Ignore(recorded=recorded) if recorded.ignore else runtime.capture.ignore


def _plan(runtime: Runtime, now: AgentState, tree: Digest | None, target: Seq, asked: Return) -> RollbackPlan:
    """Plans from the tree that stands."""
    then = runtime.reader.state_at(target)
    held = tree_at(then)
    if tree is None or held is None:
        raise ConfigError(f"no tree was captured at event {target}: choose a later one")
    nodes = runtime.capture.nodes
    grafted = graft(nodes, tree, held, asked.paths) if asked.paths else None
    event = return_to(then, replace(now, tree=tree), asked, Digest(""), grafted=grafted)
    assert event is not None, "both trees are there"
    spared = spared_by(lambda path: find_path(nodes, held, path).entry, runtime.blobs, _rules_at(runtime, then))
    planned = RollbackPlan(
        target=target,
        asked=asked,
        tree=event.tree,
        tree_now=tree,
        checkpoint=event.checkpoint,
        checkpoint_now=now.checkpoint,
        memory=event.memory,
        memory_now=now.memory,
        plan=plan_changes(changed(nodes, tree, event.tree), spared),
    )
    switch = Switch.of(runtime.reader, runtime.blobs, asked, event)
    return replace(planned, to_embed=tuple(switch.lacking)) if switch.lacking else planned


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
    runtime: Runtime, target: Seq, asked: Return, *, digest: str | None = None, seen: RollbackPlan | None = None
) -> RolledBack:
    """Returns to an event; raises as ``roll_back``.

    Args:
        runtime: the workspace.
        target: where to.
        asked: what is brought back.
        digest: the digest of the plan that was looked at, or its beginning.
        seen: that plan itself.
    """
    finish_begun(runtime)
    workspace = runtime.workspace
    with runtime.files.held():
        rescan(runtime)  # whatever is brought back: the safety snapshot names what stands
        planned = _plan(runtime, runtime.state, runtime.state.tree, target, asked)
        check_digest(planned, digest)
        if seen is not None:
            _check_same(planned, seen)
        sweep(workspace.staging, runtime.blobs)
        check_plan(workspace.root, planned.plan, runtime.blobs, contents=False)
        if planned.checkpoint and planned.checkpoint != planned.checkpoint_now:
            runtime.models.folder(planned.checkpoint)
        content = write_plan(runtime.blobs, planned.plan)
        fresh = stage(workspace.root, workspace.staging / content, planned.plan, runtime.blobs)
        failpoint("rollback.staged")
        try:
            begun = _begin(runtime, planned, content)
        except PositionConflict as error:
            if isinstance(error.__cause__, BlobMissing):  # collected, while this process remembered what it held
                raise error.__cause__ from error
            raise
        failpoint("rollback.started")
        records = _roll_forward(runtime, fresh=fresh)
    finished = records[0].event
    assert isinstance(finished, RollbackFinished)
    return RolledBack(
        target=target,
        safety=_safety(begun[0].seq),
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


def _begin(runtime: Runtime, planned: RollbackPlan, content: Digest) -> list[Recorded]:
    """Records the safety snapshot, the vectors that memory lacks, and the beginning, all together.

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
            safety = taken(now, _safety(Seq(now.head + 1)), f"before the rollback to event {target}")
            again = [Pending(one) for one in switch.embedded]
            return [Pending(safety), *again, Pending(event, after=1)]

        begun = runtime.log.transact(begin)
        if begun:
            if switch.embedded:
                runtime.models.forget_kept()
            return begun
    raise Diverged("memory grows faster than it can be embedded again. Nothing was moved; stop the worker, try again.")


def _check_same(planned: RollbackPlan, seen: RollbackPlan) -> None:
    """Refuses a plan that is no longer the one that was looked at."""
    if seen.digest != planned.digest:
        differ = _differing(seen.plan.steps, planned.plan.steps)
        raise Diverged(f"the workspace changed since the plan was made ({differ}). Nothing was moved; plan again.")


def check_digest(planned: RollbackPlan, digest: str | None) -> None:
    """Refuses a plan whose digest does not begin as the one that was looked at.

    Raises:
        ConfigError: that is too short to name a plan.
        Diverged: it is another.
    """
    if digest is None:
        return
    if len(digest) < DIGITS_MIN:
        raise ConfigError(f"{digest!r} is too short to name a plan: give {DIGITS_MIN} digits at least")
    if not planned.digest.startswith(digest):
        raise Diverged(
            f"the plan would be another now ({planned.digest[:12]}, not {digest[:12]}): files, checkpoint or memory "
            "changed since it was shown, or the reference means another event. Nothing was moved; look again with -n."
        )


def _differing(before: tuple[Step, ...], after: tuple[Step, ...]) -> str:
    one, other = ({step.path: step for step in steps} for steps in (before, after))
    paths = sorted(path for path in one.keys() | other.keys() if one.get(path) != other.get(path))
    more = f" and {len(paths) - NAMED_MAX} more" if len(paths) > NAMED_MAX else ""
    return ", ".join(paths[:NAMED_MAX]) + more if paths else "checkpoint or memory"
