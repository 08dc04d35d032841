"""What differs between two positions of one log: code, checkpoint, memory, rewards, policy, and how the machine stands.

Both states are folds; blobs are read for lines and tensors alone. No model is loaded, no effect is run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from instar.fsm.events import PlanStep
from instar.fsm.policies import recent
from instar.fsm.rewards import Standing
from instar.fsm.state import AgentState, state_digest
from instar.fsm.words import ORIGIN, Digest, Seq
from instar.store.ports import Blobs
from instar.store.reader import LogReader

from .checkpoint_diff import CheckpointDiff, compare_checkpoints
from .memory_diff import MemoryDiff, compare_memory
from .tree_diff import CodeDiff, compare_code

__all__ = ["Point", "StandingChange", "StateDiff", "ValueChange", "compare_states"]


class Point(Struct, frozen=True, kw_only=True):
    """One of the two positions, when it was recorded, and the digest of the state there."""

    seq: Seq
    at_us: int
    state_digest: Digest


class ValueChange(Struct, frozen=True):
    """A value by its name, such as ``drift.threshold``; None where there is none."""

    name: str
    before: Any
    after: Any


class StandingChange(Struct, frozen=True, kw_only=True):
    """Where a task type stood and where it stands; None where it was not rewarded yet."""

    task_type: str
    before: Standing | None
    after: Standing | None


class StateDiff(Struct, frozen=True, kw_only=True):
    """What differs on the way from one position to another, later or earlier one."""

    a: Point
    b: Point
    code: CodeDiff
    checkpoint: CheckpointDiff
    memory: MemoryDiff
    rewards: tuple[StandingChange, ...]
    policy: tuple[ValueChange, ...]
    snapshots: tuple[ValueChange, ...]
    """Names, with the position that each stands for."""
    plan_before: tuple[PlanStep, ...]
    plan_after: tuple[PlanStep, ...]
    machine: tuple[ValueChange, ...]
    budgets: tuple[ValueChange, ...]
    waiting: tuple[ValueChange, ...]
    standing: bool = False
    """Whether the second code is that of the folder as it stands, and not of an event."""

    @property
    def same(self) -> bool:
        """Says whether the two positions differ in nothing of all this."""
        code, memory = self.code, self.memory
        return (
            code.before == code.after
            and self.checkpoint.before == self.checkpoint.after
            and not (memory.added.rows or memory.hidden.rows)
            and self.plan_before == self.plan_after
            and not (self.rewards or self.policy or self.snapshots or self.machine or self.budgets or self.waiting)
        )


def compare_states(reader: LogReader, blobs: Blobs, a: Seq, b: Seq, *, tree: Digest | None = None) -> StateDiff:
    """Compares what stood at two positions.

    Args:
        reader: the log.
        blobs: the blobs of its workspace.
        a: where to begin.
        b: where to end; it may lie before ``a``, and the difference then leads back.
        tree: the code to compare with, in place of that at ``b``.

    Raises:
        LogCorrupt: there is no such position.
        BlobMissing, BlobCorrupt: a tree is not in the store, or damaged.
    """
    at_us = [reader.get(seq).recorded_at_us if seq > ORIGIN else 0 for seq in (a, b)]  # refuses what is not there
    before, after = reader.state_at(a), reader.state_at(b)
    one, other = (
        Point(seq=seq, at_us=time, state_digest=state_digest(state))
        for seq, time, state in zip((a, b), at_us, (before, after), strict=True)
    )
    return StateDiff(
        a=one,
        b=other,
        code=compare_code(blobs, before.tree, tree or after.tree),
        checkpoint=compare_checkpoints(reader, blobs, (a, before.checkpoint), (b, after.checkpoint)),
        memory=compare_memory(reader, before, after),
        rewards=_rewards(before.standings, after.standings),
        policy=_values(_flat(before.policy), _flat(after.policy)),
        snapshots=_values(before.snapshots, after.snapshots),
        plan_before=before.plan,
        plan_after=after.plan,
        machine=_values(_machine(before), _machine(after)),
        budgets=_values(_budgets(before, one.at_us), _budgets(after, other.at_us)),
        waiting=_values(_waiting(before), _waiting(after)),
        standing=tree is not None,
    )


def _values(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[ValueChange, ...]:
    names = (*before, *(name for name in after if name not in before))
    return tuple(
        ValueChange(name, before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)
    )


def _rewards(before: Mapping[str, Standing], after: Mapping[str, Standing]) -> tuple[StandingChange, ...]:
    names = sorted({*before, *after})
    return tuple(
        StandingChange(task_type=name, before=before.get(name), after=after.get(name))
        for name in names
        if before.get(name) != after.get(name)
    )


def _flat(value: Struct, above: str = "") -> dict[str, Any]:
    """Gives the leaves of nested structs by their dotted names."""
    found: dict[str, Any] = {}
    for name, inner in msgspec.structs.asdict(value).items():
        if isinstance(inner, Struct):
            found |= _flat(inner, f"{above}{name}.")
        else:
            found[above + name] = inner
    return found


def _machine(state: AgentState) -> dict[str, Any]:
    cycle, restoring = state.cycle, state.restoring
    return {
        "state": state.machine,
        "cycles": state.cycles,
        "cycle in progress": f"{cycle.number} ({cycle.entry})" if cycle else None,
        "restore in progress": f"{restoring.kind} begun by event {restoring.seq}" if restoring else None,
    }


def _budgets(state: AgentState, at_us: int) -> dict[str, Any]:
    return {
        "retrains in the last hour": len(recent(state.retrains_at_us, at_us)),
        "retrains suppressed": state.suppressed,
        "mutations in the last hour": len(recent(state.mutations_at_us, at_us)),
        "failed cycles in a row": state.failures,
        "rows learned from last": state.trained_rows,
        "data set learned last": state.trained,
    }


def _waiting(state: AgentState) -> dict[str, Any]:
    counts: dict[str, int] = {"signals": 0, "self_train": 0, "mutate": 0}
    for run in state.waiting:
        counts[run.entry] += run.count
    return counts
