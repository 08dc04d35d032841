"""Where machine and agent stand, for the page's first panel and for programs."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from instar.engine.progress import Progress, read_progress
from instar.engine.status import worker_runs
from instar.fsm.policies import recent
from instar.fsm.react import EffectName, react
from instar.fsm.state import AgentState

from .rows import Entry, entry_of
from .view import LogView

_WORK = {
    EffectName.ROLL_FORWARD: "Bringing the workspace to its new tree",
    EffectName.START_CYCLE: "Taking up the waiting signals",
    EffectName.DIFF: "Comparing each signal with what was there before",
    EffectName.EMBED: "Embedding differences and feedback into memory",
    EffectName.FLAG: "Flagging a retrain",
    EffectName.GENERATE: "Generating a training set",
    EffectName.TRAIN: "Training a candidate checkpoint",
    EffectName.REWARD: "Scoring outcomes, judging what changed",
    EffectName.MUTATE: "Trying a mutation in its sandbox",
    EffectName.PLAN: "Planning what comes next",
}


class Overview(Struct, frozen=True, kw_only=True):
    """A look at the head of the log. ``moved`` is the event on which the machine entered its present state."""

    workspace: str
    root: str
    machine: str
    since: int
    head: int
    moved: Entry | None
    owed: str | None
    doing: str
    worker: bool
    progress: Progress | None
    cycle: int | None
    cycle_entry: str | None
    cycle_count: int
    cycles: int
    checkpoint: str | None
    tree: str | None
    waiting: int
    waiting_by_entry: dict[str, int]
    triggers: list[str]
    failures: int
    failures_max: int
    retrains_in_hour: int
    retrains_max: int
    suppressed: int
    snapshots: int
    restoring: str | None
    problem: str | None


def overview(view: LogView) -> Overview:
    """Reads the view, the worker's lock and its progress report."""
    state = view.state
    effect = react(state)
    worker = worker_runs(view.workspace)
    progress = read_progress(view.workspace.progress) if effect else None
    cycle = state.cycle
    moved = entry_of(view.moved) if view.moved is not None else None
    return Overview(
        workspace=state.workspace or view.workspace.root.name,
        root=str(view.workspace.root),
        machine=state.machine,
        since=state.since,
        head=view.head,
        moved=moved,
        owed=effect.name if effect else None,
        doing=_doing(effect.name if effect else None, worker=worker),
        worker=worker,
        progress=progress if progress and effect and progress.effect == effect.name else None,
        cycle=cycle.number if cycle else None,
        cycle_entry=cycle.entry if cycle else None,
        cycle_count=cycle.count if cycle else 0,
        cycles=state.cycles,
        checkpoint=state.checkpoint,
        tree=state.tree,
        waiting=state.waiting_count,
        waiting_by_entry=_by_entry(state),
        triggers=[f"{one.policy}: {one.note}" for one in cycle.triggers] if cycle else [],
        failures=state.failures,
        failures_max=state.policy.cycle.failures_max,
        retrains_in_hour=_retrains(state, moved),
        retrains_max=state.policy.retrain.per_hour_max,
        suppressed=state.suppressed,
        snapshots=len(state.snapshots),
        restoring=state.restoring.kind if state.restoring else None,
        problem=view.problem,
    )


def _doing(owed: EffectName | None, *, worker: bool) -> str:
    if owed is None:
        return "Waiting for signals"
    work = _WORK[owed]
    return work if worker else f"No worker runs. Next: {work[0].lower()}{work[1:]}"


def _by_entry(state: AgentState) -> dict[str, int]:
    counts: dict[str, int] = {}
    for run in state.waiting:
        counts[run.entry] = counts.get(run.entry, 0) + run.count
    return counts


def _retrains(state: AgentState, moved: Entry | None) -> int:
    """Counts the retrains flagged in the recorded hour that the budget looks at."""
    now_us = max([moved.at_us if moved else 0, *state.retrains_at_us[-1:]])
    return len(recent(state.retrains_at_us, now_us))


def plan_of(view: LogView) -> list[dict[str, Any]]:
    """Gives the last plan, first step first."""
    steps = sorted(view.state.plan, key=lambda step: step.rank)
    return [
        {"rank": step.rank, "task_type": step.task_type, "strategy": step.strategy, "reason": step.reason}
        for step in steps
    ]
