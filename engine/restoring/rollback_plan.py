"""What a rollback would do, computed after a look at every file. Nothing is recorded, and nothing moves."""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from instar.engine.memory.rows import RowName
from instar.engine.memory.space_switch import Switch
from instar.engine.references import resolve
from instar.engine.runtime import Runtime
from instar.engine.trees.ignore import Ignore, spared_by
from instar.fsm.decisions import Return, return_to, tree_at
from instar.fsm.errors import ConfigError, Diverged
from instar.fsm.events import PARTS, Part, Span
from instar.fsm.state import AgentState
from instar.fsm.words import Digest, Seq, digest_of
from instar.store.tree_changes import changed, find_path, graft

from .plan import Plan, Step, plan_changes
from .recovery import finish_begun
from .restore import check_plan

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


def chosen(only: Collection[Part]) -> tuple[Part, ...]:
    """Gives the parts that are brought back, in their order; all of them when none is named.

    Raises:
        ConfigError: there is no such part, or a text was given in place of several.
    """
    if isinstance(only, str):
        raise ConfigError(f"the parts are one text, {only!r}: give a list, such as [{only!r}]")
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
        planned = plan_from(runtime, state, tree, target, asked)
        check_plan(runtime.workspace.root, planned.plan, runtime.blobs)
        return planned


def _rules_at(runtime: Runtime, then: AgentState) -> Ignore:
    """Gives the rules under which a tree was captured; those of today where the log does not tell."""
    recorded = then.policy.capture
    return Ignore(recorded=recorded) if recorded.ignore else runtime.capture.ignore


def plan_from(runtime: Runtime, now: AgentState, tree: Digest | None, target: Seq, asked: Return) -> RollbackPlan:
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


def check_same(planned: RollbackPlan, seen: RollbackPlan) -> None:
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
