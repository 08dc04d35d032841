"""The fold: state and event to state. Pure and total over a log that was written by it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from . import events as e
from .errors import IllegalTransition
from .machine import next_state
from .policies import (
    change_key,
    explicit,
    failure_is_final,
    is_remembered,
    may_retrain,
    promotion,
    recent,
    triggers,
    worth_training,
)
from .rewards import credit
from .state import AgentState, Candidate, Cycle, Restoring, Waiting
from .words import ORIGIN, Seq, State

_ANSWERS = (
    e.DiffComputed,
    e.SignalEmbedded,
    e.RetrainFlagged,
    e.DatasetGenerated,
    e.CheckpointTrained,
    e.MemoryReembedded,
    e.OutcomeRewarded,
    e.PlanChosen,
    e.MutationRejected,
    e.MutationAccepted,
    e.EffectFailed,
)
"""Outcomes of effects: each must name, as its cause, the event that brought the machine into the state that owed it."""

_FINISHES = (e.RollbackFinished, e.MutationApplied)
_SIGNALS = (e.ChangeObserved, e.FeedbackReceived, e.TaskQueued, e.InputSkipped, e.PolicyChanged, e.SnapshotTaken)


class _Moment:
    """Where and when an event stands in the log."""

    __slots__ = ("at_us", "cause", "seq")

    def __init__(self, seq: Seq, cause: Seq | None, at_us: int) -> None:
        self.seq, self.cause, self.at_us = seq, cause, at_us


def evolve(state: AgentState, event: e.AnyEvent, *, seq: Seq, cause: Seq | None, at_us: int) -> AgentState:
    """Gives the state after an event.

    Args:
        state: the state at position ``seq − 1``.
        event: the fact.
        seq: its position.
        cause: the event that it answers.
        at_us: its recorded time, microseconds since 1970 UTC.

    Raises:
        IllegalTransition: the machine does not accept the event here, or it answers a question that is no longer open.
    """
    _check_position(state, event, seq, cause)
    target = next_state(state, event, at_us)
    handler = _HANDLERS.get(type(event))
    changed = handler(state, event, _Moment(seq, cause, at_us)) if handler else {}
    if target is not None:
        changed["machine"] = target
        changed["since"] = seq
        if target is State.IDLE:
            changed["cycle"] = None
    return replace(state, head=seq, **changed)


def _check_position(state: AgentState, event: e.AnyEvent, seq: Seq, cause: Seq | None) -> None:
    if seq != state.head + 1:
        raise IllegalTransition(f"event {seq} does not follow {state.head}")
    if (state.head == ORIGIN) != isinstance(event, e.WorkspaceInitialized):
        raise IllegalTransition("the first event of a log, and no other, is WorkspaceInitialized")
    if state.restoring and not isinstance(event, _SIGNALS):
        if not isinstance(event, _FINISHES) or cause != state.restoring.seq:
            raise IllegalTransition(
                f"{type(event).__name__} must wait: the restore begun by event {state.restoring.seq} is not finished. "
                f"Start the worker or run `instar run --once`; it rolls forward first."
            )
    elif isinstance(event, _FINISHES):
        raise IllegalTransition(f"{type(event).__name__} finishes nothing: no restore was begun")
    elif isinstance(event, _ANSWERS) and cause != state.since:
        raise IllegalTransition(
            f"{type(event).__name__} answers event {cause}, but the machine is in {state.machine} since {state.since}"
        )


def _cycle(state: AgentState) -> Cycle:
    if state.cycle is None:
        raise IllegalTransition(f"no cycle is in progress in state {state.machine}")
    return state.cycle


# ---- signals -------------------------------------------------------------------------------------------------------


def _wait(waiting: tuple[Waiting, ...], entry: e.Entry, seq: Seq) -> tuple[Waiting, ...]:
    """Appends a signal to the last run of its kind; a task always is a run of its own."""
    if waiting and entry == "signals" and waiting[-1].entry == "signals":
        last = waiting[-1]
        return (*waiting[:-1], Waiting("signals", last.first, seq, last.count + 1))
    return (*waiting, Waiting(entry, seq, seq, 1))


def _initialized(_state: AgentState, event: e.WorkspaceInitialized, _at: _Moment) -> dict[str, Any]:
    return {
        "workspace": event.workspace,
        "policy": event.policy,
        "tree": event.tree,
        "checkpoint": event.checkpoint,
        "memory_open": False,
    }


def _policy_changed(_state: AgentState, event: e.PolicyChanged, _at: _Moment) -> dict[str, Any]:
    return {"policy": event.policy}


def _change_observed(state: AgentState, event: e.ChangeObserved, at: _Moment) -> dict[str, Any]:
    key = change_key(event)
    if event.seen != (key in state.judged):
        raise IllegalTransition(f"a change of {event.path} must say whether it was seen before")
    if event.seen:
        return {"tree": event.tree}
    judged = (*state.judged, key)[-state.policy.cycle.judged_max :]
    return {"tree": event.tree, "judged": judged, "waiting": _wait(state.waiting, "signals", at.seq)}


def _feedback_received(state: AgentState, _event: e.FeedbackReceived, at: _Moment) -> dict[str, Any]:
    return {"waiting": _wait(state.waiting, "signals", at.seq)}


def _task_queued(state: AgentState, event: e.TaskQueued, at: _Moment) -> dict[str, Any]:
    if event.task == "shell":
        return {}
    return {"waiting": _wait(state.waiting, event.task, at.seq)}


def _input_skipped(_state: AgentState, event: e.InputSkipped, _at: _Moment) -> dict[str, Any]:
    return {"tree": event.tree} if event.tree else {}


def _snapshot_taken(state: AgentState, event: e.SnapshotTaken, at: _Moment) -> dict[str, Any]:
    return {"snapshots": {**state.snapshots, event.name: at.seq}}


# ---- the cycle -----------------------------------------------------------------------------------------------------


def _cycle_started(state: AgentState, event: e.CycleStarted, at: _Moment) -> dict[str, Any]:
    run = state.waiting[0] if state.waiting else None
    fits = (
        run is not None
        and event.entry == run.entry
        and event.span.first == run.first
        and event.span.first <= event.span.last <= run.last
        and 0 < event.count <= min(run.count, state.policy.cycle.signals_max)
        and (event.span.last == run.last) == (event.count == run.count)
        and at.cause == event.span.last
    )
    if run is None or not fits:
        raise IllegalTransition(f"a cycle must take up the run of signals that waits first ({run}), not {event.span}")
    rest = state.waiting[1:]
    if event.count < run.count:
        left = Waiting(run.entry, Seq(event.span.last + 1), run.last, run.count - event.count)
        rest = (left, *rest)
    cycle = Cycle(
        number=state.cycles + 1,
        started=at.seq,
        entry=event.entry,
        span=event.span,
        count=event.count,
        triggers=(explicit(event),) if event.entry == "self_train" else (),
    )
    changed: dict[str, Any] = {"waiting": rest, "cycle": cycle, "cycles": cycle.number}
    if event.entry == "mutate":
        changed["mutations_at_us"] = (*recent(state.mutations_at_us, at.at_us), at.at_us)
    return changed


def _diff_computed(state: AgentState, _event: e.DiffComputed, at: _Moment) -> dict[str, Any]:
    return {"cycle": replace(_cycle(state), diffed=at.seq)}


def _signal_embedded(state: AgentState, event: e.SignalEmbedded, at: _Moment) -> dict[str, Any]:
    found = triggers(state, event)
    changed: dict[str, Any] = {"cycle": replace(_cycle(state), embedded=at.seq, triggers=found)}
    if event.vectors is not None:
        if state.memory_open:
            last = state.memory[-1]
            changed["memory"] = (*state.memory[:-1], e.Span(last.first, at.seq))
        else:
            changed["memory"] = (*state.memory, e.Span(at.seq, at.seq))
            changed["memory_open"] = True
    if not found and all(item.outcome is None for item in event.items):
        changed["failures"] = 0
    return changed


def _dataset_generated(state: AgentState, event: e.DatasetGenerated, at: _Moment) -> dict[str, Any]:
    changed: dict[str, Any] = {"cycle": replace(_cycle(state), dataset=event.dataset, rows=event.train)}
    if worth_training(state, event):
        if may_retrain(state, at.at_us):
            changed["retrains_at_us"] = (*recent(state.retrains_at_us, at.at_us), at.at_us)
        else:
            changed["suppressed"] = state.suppressed + 1
    return changed


def _checkpoint_trained(state: AgentState, event: e.CheckpointTrained, at: _Moment) -> dict[str, Any]:
    candidate = Candidate(at.seq, event.checkpoint, event.gain, event.after.pairs)
    cycle = replace(_cycle(state), candidate=candidate)
    return {"cycle": cycle, "trained": event.dataset, "trained_rows": cycle.rows}


def _memory_reembedded(state: AgentState, event: e.MemoryReembedded, _at: _Moment) -> dict[str, Any]:
    return {"cycle": replace(_cycle(state), reembedded=event.space)}


def _outcome_rewarded(state: AgentState, event: e.OutcomeRewarded, at: _Moment) -> dict[str, Any]:
    cycle = _cycle(state)
    changed: dict[str, Any] = {
        "standings": credit(state.standings, event.rewards, state.policy.reward),
        "cycle": replace(cycle, rewarded=at.seq),
    }
    if is_remembered(event):
        changed["waiting"] = _wait(state.waiting, "signals", at.seq)
    if event.verdict == "promoted":
        candidate = cycle.candidate
        if candidate is None or event.checkpoint != candidate.checkpoint:
            raise IllegalTransition("only the checkpoint that this cycle trained can be promoted")
        allowed, why = promotion(state.policy.gate, candidate)
        if not allowed:
            raise IllegalTransition(f"the gate does not admit this promotion: {why}")
        if state.memory and cycle.reembedded != candidate.checkpoint:
            raise IllegalTransition("a checkpoint is promoted only after memory was embedded again in its space")
        changed["checkpoint"] = candidate.checkpoint
    return changed


def _plan_chosen(_state: AgentState, event: e.PlanChosen, _at: _Moment) -> dict[str, Any]:
    return {"plan": event.steps, "failures": 0}


def _effect_failed(state: AgentState, event: e.EffectFailed, at: _Moment) -> dict[str, Any]:
    """Takes signals that did not reach memory up again, and lets the failure start a cycle, both a few times only."""
    failures = state.failures + 1
    if event.final != failure_is_final(state):
        raise IllegalTransition("a failure must say whether it is the last one that starts a cycle")
    if event.final:
        return {"failures": failures}
    return {"failures": failures, "waiting": _wait(_requeue(state), "signals", at.seq)}


def _requeue(state: AgentState) -> tuple[Waiting, ...]:
    """Puts the signals of a cycle that was cut off before memory held them back in front."""
    cycle = state.cycle
    if cycle is None or cycle.entry != "signals" or cycle.embedded is not None:
        return state.waiting
    taken = Waiting("signals", cycle.span.first, cycle.span.last, cycle.count)
    if state.waiting and state.waiting[0].entry == "signals":
        nearest = state.waiting[0]
        return (Waiting("signals", taken.first, nearest.last, taken.count + nearest.count), *state.waiting[1:])
    return (taken, *state.waiting)


# ---- mutation and rollback -----------------------------------------------------------------------------------------


def _mutation_rejected(state: AgentState, _event: e.MutationRejected, at: _Moment) -> dict[str, Any]:
    return {"cycle": replace(_cycle(state), mutation=at.seq)}


def _mutation_accepted(state: AgentState, event: e.MutationAccepted, at: _Moment) -> dict[str, Any]:
    if _cycle(state).mutation is not None:
        raise IllegalTransition("the mutation of this cycle was judged already")
    return {"restoring": Restoring(at.seq, event.plan, "mutation", event.tree_after)}


def _mutation_applied(state: AgentState, event: e.MutationApplied, at: _Moment) -> dict[str, Any]:
    return {"restoring": None, "tree": event.tree, "cycle": replace(_cycle(state), mutation=at.seq)}


def _rollback_started(state: AgentState, event: e.RollbackStarted, at: _Moment) -> dict[str, Any]:
    return {
        "restoring": Restoring(at.seq, event.plan, "rollback", event.tree),
        "waiting": _requeue(state),
        "memory": event.memory,
        "memory_open": False,
        "checkpoint": event.checkpoint,
        "trained": event.trained,
        "trained_rows": event.trained_rows,
    }


def _rollback_finished(_state: AgentState, event: e.RollbackFinished, _at: _Moment) -> dict[str, Any]:
    return {"restoring": None, "tree": event.tree}


_HANDLERS: dict[type, Callable[[AgentState, Any, _Moment], dict[str, Any]]] = {
    e.WorkspaceInitialized: _initialized,
    e.PolicyChanged: _policy_changed,
    e.ChangeObserved: _change_observed,
    e.FeedbackReceived: _feedback_received,
    e.TaskQueued: _task_queued,
    e.InputSkipped: _input_skipped,
    e.SnapshotTaken: _snapshot_taken,
    e.CycleStarted: _cycle_started,
    e.DiffComputed: _diff_computed,
    e.SignalEmbedded: _signal_embedded,
    e.DatasetGenerated: _dataset_generated,
    e.CheckpointTrained: _checkpoint_trained,
    e.MemoryReembedded: _memory_reembedded,
    e.OutcomeRewarded: _outcome_rewarded,
    e.PlanChosen: _plan_chosen,
    e.EffectFailed: _effect_failed,
    e.MutationRejected: _mutation_rejected,
    e.MutationAccepted: _mutation_accepted,
    e.MutationApplied: _mutation_applied,
    e.RollbackStarted: _rollback_started,
    e.RollbackFinished: _rollback_finished,
}
