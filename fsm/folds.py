"""What each event changes in the state: one pure function an event type, giving the fields that are new."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from . import events as e
from . import probation as watching
from .decisions import rollback_fault
from .errors import IllegalTransition
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
from .words import Seq, State


class Moment(Struct, frozen=True, gc=False):
    """Where and when an event stands in the log, and what it answers."""

    seq: Seq
    cause: Seq | None
    at_us: int


def _cycle(state: AgentState) -> Cycle:
    if state.cycle is None:
        raise IllegalTransition(f"no cycle is in progress in state {state.machine}")
    return state.cycle


# ---- signals -------------------------------------------------------------------------------------------------------


def _wait(waiting: tuple[Waiting, ...], entry: e.Entry, seq: Seq) -> tuple[Waiting, ...]:
    """Appends a signal to the last run of its kind; a task always is a run of its own."""
    if waiting and entry == "signals" and waiting[-1].entry == "signals":
        last = waiting[-1]
        longer = Waiting("signals", last.first, seq, last.count + 1)
        return (longer,) if len(waiting) == 1 else (*waiting[:-1], longer)
    return (*waiting, Waiting(entry, seq, seq, 1))


def _initialized(_state: AgentState, event: e.WorkspaceInitialized, _at: Moment) -> dict[str, Any]:
    return {
        "workspace": event.workspace,
        "policy": event.policy,
        "tree": event.tree,
        "checkpoint": event.checkpoint,
        "memory_open": False,
    }


def _model_adopted(state: AgentState, event: e.ModelAdopted, _at: Moment) -> dict[str, Any]:
    if state.checkpoint is not None:
        raise IllegalTransition("there is a model already: another one has to pass the gate, or be trained")
    return {"checkpoint": event.checkpoint}


def _policy_changed(_state: AgentState, event: e.PolicyChanged, _at: Moment) -> dict[str, Any]:
    return {"policy": event.policy}


def _change_observed(state: AgentState, event: e.ChangeObserved, at: Moment) -> dict[str, Any]:
    key = change_key(event)
    if event.seen != (key in state.judged):
        raise IllegalTransition(f"a change of {event.path} must say whether it was seen before")
    if event.seen:
        return {"tree": event.tree}
    judged = state.judged.pushed(key, state.policy.cycle.judged_max)
    return {"tree": event.tree, "judged": judged, "waiting": _wait(state.waiting, "signals", at.seq)}


def _feedback_received(state: AgentState, _event: e.FeedbackReceived, at: Moment) -> dict[str, Any]:
    return {"waiting": _wait(state.waiting, "signals", at.seq)}


def _task_queued(state: AgentState, event: e.TaskQueued, at: Moment) -> dict[str, Any]:
    if event.task == "shell":
        return {}
    again = bool(event.recipe) or event.checkpoint is not None
    return {"waiting": (*state.waiting, Waiting(event.task, at.seq, at.seq, 1, again=again))}


def _input_skipped(_state: AgentState, event: e.InputSkipped, _at: Moment) -> dict[str, Any]:
    return {"tree": event.tree} if event.tree else {}


def _tree_captured(_state: AgentState, event: e.TreeCaptured, _at: Moment) -> dict[str, Any]:
    return {"tree": event.tree}


def _snapshot_taken(state: AgentState, event: e.SnapshotTaken, at: Moment) -> dict[str, Any]:
    return {"snapshots": state.snapshots.set(event.name, at.seq)}


def _payload_erased(_state: AgentState, event: e.PayloadErased, at: Moment) -> dict[str, Any]:
    if not 0 < event.target < at.seq or at.cause != event.target:
        raise IllegalTransition("an erasure names, as its cause too, the earlier event whose payload it erased")
    return {}


# ---- the cycle -----------------------------------------------------------------------------------------------------


def _cycle_started(state: AgentState, event: e.CycleStarted, at: Moment) -> dict[str, Any]:
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
        again=run.again,
    )
    changed: dict[str, Any] = {"waiting": rest, "cycle": cycle, "cycles": cycle.number}
    if event.entry == "mutate":
        changed["mutations_at_us"] = (*recent(state.mutations_at_us, at.at_us), at.at_us)
    return changed


def _diff_computed(state: AgentState, _event: e.DiffComputed, at: Moment) -> dict[str, Any]:
    return {"cycle": replace(_cycle(state), diffed=at.seq)}


def _signal_embedded(state: AgentState, event: e.SignalEmbedded, at: Moment) -> dict[str, Any]:
    found = triggers(state, event)
    changed: dict[str, Any] = {"cycle": replace(_cycle(state), embedded=at.seq, triggers=found)}
    if event.vectors is not None:
        if state.memory_open:
            last = state.memory[-1]
            changed["memory"] = (*state.memory[:-1], e.Span(last.first, at.seq))
        else:
            changed["memory"] = (*state.memory, e.Span(at.seq, at.seq))
            changed["memory_open"] = True
    if not found and {item.outcome for item in event.items} <= {None}:
        changed["failures"] = 0
    return changed


def _dataset_generated(state: AgentState, event: e.DatasetGenerated, at: Moment) -> dict[str, Any]:
    changed: dict[str, Any] = {"cycle": replace(_cycle(state), dataset=event.dataset, rows=event.train)}
    if worth_training(state, event):
        if may_retrain(state, at.at_us):
            changed["retrains_at_us"] = (*recent(state.retrains_at_us, at.at_us), at.at_us)
        else:
            changed["suppressed"] = state.suppressed + 1
    return changed


def _training_progressed(_state: AgentState, event: e.TrainingProgressed, _at: Moment) -> dict[str, Any]:
    if not 0 < event.step <= event.steps:
        raise IllegalTransition(f"a training of {event.steps} steps cannot have come to step {event.step}")
    return {}


def _checkpoint_trained(state: AgentState, event: e.CheckpointTrained, at: Moment) -> dict[str, Any]:
    candidate = Candidate(at.seq, event.checkpoint, event.gain, event.after.pairs, event.abilities, event.temperature)
    cycle = replace(_cycle(state), candidate=candidate)
    changed: dict[str, Any] = {"cycle": cycle}
    if event.brought is None:
        changed |= {"trained": event.dataset, "trained_rows": cycle.rows}
    if event.base_temperature is not None:
        changed["calibrations"] = state.calibrations.set(event.base, event.base_temperature)
    return changed


def _memory_reembedded(state: AgentState, event: e.MemoryReembedded, at: Moment) -> dict[str, Any]:
    if at.cause is None:  # for the rollback that follows
        return {}
    if state.machine is not State.REWARDING:
        raise IllegalTransition("memory is embedded again for a promotion or, without a cause, for a rollback")
    return {"cycle": replace(_cycle(state), reembedded=event.space)}


def _outcome_rewarded(state: AgentState, event: e.OutcomeRewarded, at: Moment) -> dict[str, Any]:
    cycle = _cycle(state)
    standings = credit(state.standings, event.rewards, state.policy.reward)
    changed: dict[str, Any] = {"standings": standings, "cycle": replace(cycle, rewarded=at.seq)}
    if state.mutation_probations:
        changed["mutation_probations"] = tuple(
            watching.watched_on(one, event.rewards, state.policy.mutation, at.seq) for one in state.mutation_probations
        )
    watches = state.checkpoint_probations
    if watches:
        watches = tuple(watching.watched_on(one, event.rewards, state.policy.gate, at.seq) for one in watches)
        changed["checkpoint_probations"] = watches
    if is_remembered(event):
        changed["waiting"] = _wait(state.waiting, "signals", at.seq)
    if event.verdict == "promoted":
        candidate = cycle.candidate
        if candidate is None or event.checkpoint != candidate.checkpoint:
            raise IllegalTransition("only the checkpoint that this cycle trained can be promoted")
        found, why = promotion(state.policy.gate, candidate)
        if found != "promoted":
            raise IllegalTransition(f"the gate does not admit this promotion: {why}")
        if state.memory and cycle.reembedded != candidate.checkpoint:
            raise IllegalTransition("a checkpoint is promoted only after memory was embedded again in its space")
        changed["checkpoint"] = candidate.checkpoint
        changed["checkpoint_probations"] = watching.promoted_on(watches, event, at.seq, standings, state.policy.reward)
        if candidate.temperature is not None:
            changed["calibrations"] = state.calibrations.set(candidate.checkpoint, candidate.temperature)
    return changed


def _plan_chosen(_state: AgentState, event: e.PlanChosen, _at: Moment) -> dict[str, Any]:
    return {"plan": event.steps, "failures": 0}


def _effect_failed(state: AgentState, event: e.EffectFailed, at: Moment) -> dict[str, Any]:
    """Takes signals that did not reach memory up again, and lets the failure start a cycle, both a few times only."""
    if event.cancelled:
        if state.machine is not State.TRAINING or event.final:
            raise IllegalTransition("only a training can be cancelled, and that is no failure among others")
        return {"trained_rows": _cycle(state).rows}
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


def _mutation_rejected(state: AgentState, _event: e.MutationRejected, at: Moment) -> dict[str, Any]:
    return {"cycle": replace(_cycle(state), mutation=at.seq)}


def _mutation_accepted(state: AgentState, event: e.MutationAccepted, at: Moment) -> dict[str, Any]:
    if _cycle(state).mutation is not None:
        raise IllegalTransition("the mutation of this cycle was judged already")
    return {"restoring": Restoring(at.seq, event.plan, "mutation", event.tree_after)}


def _mutation_applied(state: AgentState, event: e.MutationApplied, at: Moment) -> dict[str, Any]:
    cycle = replace(_cycle(state), mutation=at.seq)
    accepted = state.restoring.seq if state.restoring else at.seq
    watches = watching.applied_on(
        state.mutation_probations, event, at.seq, accepted, state.standings, state.policy.reward
    )
    return {"restoring": None, "tree": event.tree, "cycle": cycle, "mutation_probations": watches}


def _probation_ended(state: AgentState, event: e.ProbationEnded, at: Moment) -> dict[str, Any]:
    watch = state.due
    if watch is None or (at.cause, event.applied) != (watch.due, watch.applied):
        raise IllegalTransition("no probation of that mutation or checkpoint is due to end")
    if event.subject != watching.subject_of(watch):
        raise IllegalTransition(f"what was applied at event {watch.applied} is no {event.subject}")
    found, _ = watching.concluded(watch, watching.limits_of(watch, state))
    if (event.verdict == "kept") != (found == "kept"):
        raise IllegalTransition(f"the {event.subject} of event {watch.applied} is not {event.verdict}: it is {found}")
    waiting = _wait(state.waiting, "signals", at.seq)
    mutations = tuple(one for one in state.mutation_probations if one is not watch)
    checkpoints = tuple(one for one in state.checkpoint_probations if one is not watch)
    if event.subject == "checkpoint" and event.verdict == "undone":  # what was earned since was earned under it
        mutations = tuple(watching.begun_anew(one, state.policy.mutation, at.seq) for one in mutations)
    return {"mutation_probations": mutations, "checkpoint_probations": checkpoints, "waiting": waiting}


def _rollback_started(state: AgentState, event: e.RollbackStarted, at: Moment) -> dict[str, Any]:
    fault = rollback_fault(state, event)
    if fault is not None:
        raise IllegalTransition(f"a rollback to event {event.target} cannot be recorded: {fault}")
    return {
        "restoring": Restoring(at.seq, event.plan, "rollback", event.tree),
        "waiting": _requeue(state),
        "memory": event.memory,
        "memory_open": False,
        "checkpoint": event.checkpoint,
        "trained": event.trained,
        "trained_rows": event.trained_rows,
        "mutation_probations": watching.mutations_after(
            state.mutation_probations, state.checkpoint, event, state.policy.mutation, at.seq
        ),
        "checkpoint_probations": watching.checkpoints_after(
            state.checkpoint_probations, state.checkpoint, event, state.policy.gate, at.seq
        ),
    }


def _rollback_finished(_state: AgentState, event: e.RollbackFinished, _at: Moment) -> dict[str, Any]:
    return {"restoring": None, "tree": event.tree}


FOLDS: dict[type, Callable[[AgentState, Any, Moment], dict[str, Any]]] = {
    e.WorkspaceInitialized: _initialized,
    e.ModelAdopted: _model_adopted,
    e.PolicyChanged: _policy_changed,
    e.ChangeObserved: _change_observed,
    e.FeedbackReceived: _feedback_received,
    e.TaskQueued: _task_queued,
    e.InputSkipped: _input_skipped,
    e.TreeCaptured: _tree_captured,
    e.SnapshotTaken: _snapshot_taken,
    e.PayloadErased: _payload_erased,
    e.CycleStarted: _cycle_started,
    e.DiffComputed: _diff_computed,
    e.SignalEmbedded: _signal_embedded,
    e.DatasetGenerated: _dataset_generated,
    e.TrainingProgressed: _training_progressed,
    e.CheckpointTrained: _checkpoint_trained,
    e.MemoryReembedded: _memory_reembedded,
    e.OutcomeRewarded: _outcome_rewarded,
    e.PlanChosen: _plan_chosen,
    e.EffectFailed: _effect_failed,
    e.MutationRejected: _mutation_rejected,
    e.MutationAccepted: _mutation_accepted,
    e.MutationApplied: _mutation_applied,
    e.ProbationEnded: _probation_ended,
    e.RollbackStarted: _rollback_started,
    e.RollbackFinished: _rollback_finished,
}
