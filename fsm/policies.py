"""The decisions: pure functions of recorded facts and the recorded policy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from .events import (
    Ability,
    AnyEvent,
    ChangeObserved,
    CycleStarted,
    DatasetGenerated,
    EmbeddedItem,
    MemoryReembedded,
    OutcomeRewarded,
    SignalEmbedded,
    Trigger,
)
from .policy import GatePolicy, Policy
from .rewards import is_low
from .state import AgentState, Candidate
from .words import Seq

HOUR_US = 3_600_000_000


_decided: tuple[AgentState, SignalEmbedded, tuple[Trigger, ...]] | None = None
"""The last answer of ``triggers``: the machine's guard asks what the fold asks, about the same two values."""


def triggers(state: AgentState, event: SignalEmbedded) -> tuple[Trigger, ...]:
    """Lists the triggers that hold over what a cycle embedded, each with value, threshold and events."""
    global _decided
    asked = _decided
    if asked is None or asked[0] is not state or asked[1] is not event:
        found = (
            _code_mutation(event.items),
            _semantic_drift(event, state.policy),
            _drift_over_time(event, state.policy),
            _feedback(event.items, state),
        )
        asked = _decided = (state, event, tuple([trigger for trigger in found if trigger]))
    return asked[2]


def _seqs(items: Iterable[EmbeddedItem]) -> tuple[Seq, ...]:
    return tuple(sorted({item.seq for item in items}))


def _code_mutation(items: tuple[EmbeddedItem, ...]) -> Trigger | None:
    """Trigger 1: the meaning of a monitored logic file changed."""
    mutated = [item for item in items if item.monitored and item.meaning_changed]
    if not mutated:
        return None
    names = ", ".join(sorted({item.unit for item in mutated})[:5])
    return Trigger("code_mutation", float(len(mutated)), 1.0, _seqs(mutated), f"changed in monitored files: {names}")


def _semantic_drift(event: SignalEmbedded, policy: Policy) -> Trigger | None:
    """Trigger 2: a unit drifted from what it was, or an answer was given with little confidence.

    A unit's similarity is 1 − its drift; where that was not measured, the cosine against its last vector.
    What a restore moved back is our own doing and no drift.
    """
    threshold, restored = policy.drift.threshold, event.restored or ()
    moved = [
        (alike, item)
        for item in event.items
        if item.meaning_changed
        and (alike := _alike(item)) is not None
        and alike < threshold
        and item.seq not in restored
    ]
    unsure = [
        (item.confidence, item) for item in event.items if item.confidence is not None and item.confidence < threshold
    ]
    low = moved + unsure
    if not low:
        return None
    value = min(score for score, _ in low)
    note = f"{len(moved)} units drifted, {len(unsure)} answers unsure"
    return Trigger("semantic_drift", value, threshold, _seqs(item for _, item in low), note)


def _drift_over_time(event: SignalEmbedded, policy: Policy) -> Trigger | None:
    """Trigger 2, of what comes in: outcomes of a task type are no longer what they were.

    The threshold is shared by the tests of a cycle (Bonferroni), lest many task types make one drift by chance.
    """
    tests = event.windows
    if not tests:
        return None
    threshold = policy.drift.p_max / len(tests)
    found = sorted((test for test in tests if test.p_value < threshold), key=lambda test: test.p_value)
    if not found:
        return None
    events = tuple(sorted({seq for test in found for seq in test.farthest}))
    names = ", ".join(f"{test.task_type} ({test.effect:.1f} deviations)" for test in found[:5])
    note = f"outcomes are not what the {found[0].size} before them were: {names}"
    return Trigger("semantic_drift", found[0].p_value, threshold, events, note)


def _alike(item: EmbeddedItem) -> float | None:
    """Says how alike a unit is to what it was, in 0..1."""
    return item.similarity if item.drift is None else round(1.0 - item.drift, 6)


def _feedback(items: tuple[EmbeddedItem, ...], state: AgentState) -> Trigger | None:
    """Trigger 4: a task or the machine itself failed, or a reward is under its threshold."""
    threshold = state.policy.reward.threshold
    failed = [item for item in items if item.outcome == "fail" or (item.reward is not None and item.reward < threshold)]
    low = {
        item.task_type: standing.mean
        for item in items
        if item.task_type is not None
        and (standing := state.standings.get(item.task_type)) is not None
        and is_low(standing, state.policy.reward)
    }
    if not failed and not low:
        return None
    resting = failed + [item for item in items if item.task_type in low]
    value = min([0.0 if item.reward is None else item.reward for item in failed] + list(low.values()))
    note = f"{len(failed)} failures; rewards low: {', '.join(sorted(str(name) for name in low)) or 'none'}"
    return Trigger("feedback", value, threshold, _seqs(resting), note)


def explicit(event: CycleStarted) -> Trigger:
    """Trigger 3: somebody queued ``{"type": "self_train"}``."""
    return Trigger("explicit_task", 1.0, 1.0, (event.span.first,), "self_train was queued")


def recent(times_us: tuple[int, ...], now_us: int) -> tuple[int, ...]:
    """Keeps the recorded times that lie within the hour before ``now_us``."""
    return tuple(at_us for at_us in times_us if now_us - at_us < HOUR_US)


def may_retrain(state: AgentState, now_us: int) -> bool:
    """Says whether the hourly budget of retrains leaves one more."""
    return len(recent(state.retrains_at_us, now_us)) < state.policy.retrain.per_hour_max


def may_mutate(state: AgentState) -> bool:
    """Says whether the mutation now in progress is within the hourly budget."""
    times = state.mutations_at_us
    return not times or len(recent(times, times[-1])) <= state.policy.mutation.per_hour_max


Promotion = Literal["promoted", "rejected", "undecided"]


def promotion(policy: GatePolicy, candidate: Candidate) -> tuple[Promotion, str]:
    """Decides whether a trained checkpoint becomes the active one, and says why.

    It does when its gain on enough held-out pairs is above ``gain_min`` with its whole
    interval (a gain that noise can explain is no gain), and nothing that it could do before fell by more than
    ``forgetting_max``. Where that cannot be told from what was measured, the verdict is ``undecided``: more pairs can
    decide, the same training cannot. A candidate whose abilities were not measured is judged as before version 3 of
    ``CheckpointTrained``, by its gain alone and without that third verdict.
    """
    gain, limit = candidate.gain, policy.gain_min
    unsure: Promotion = "rejected" if candidate.abilities is None else "undecided"
    measured = f"held-out gain {gain.mean:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}] over {candidate.pairs} pairs"
    if candidate.pairs < policy.heldout_min:
        return unsure, f"{measured}: fewer than the {policy.heldout_min} held-out pairs that a verdict needs"
    if not gain.low > limit:  # also what is no number
        if candidate.abilities is None:
            return unsure, f"{measured}: the interval does not lie above {limit:g}"
        if gain.high <= limit or gain.mean <= limit:
            return "rejected", f"{measured}: no gain above {limit:g}"
        return unsure, f"{measured}: the interval holds {limit:g}; about {_pairs_needed(candidate, limit)} would decide"
    fallen = forgotten(policy, candidate.abilities)
    if fallen is not None:
        told = f"{fallen.name} fell from {fallen.before:.4f} to {fallen.after:.4f} over {fallen.pairs} cases"
        told = f"{measured}, but {told}: by more than {policy.forgetting_max:g}"
        if fallen.change.high < 0.0:
            return "rejected", told
        return unsure, f"{told}, which may be chance; more cases would decide"
    return "promoted", f"{measured}: the whole interval lies above {limit:g}{_held(policy, candidate.abilities)}"


def _pairs_needed(candidate: Candidate, limit: float) -> int:
    """Estimates over how many pairs the interval would lie above the limit: its width falls with their root."""
    gain = candidate.gain
    return math.ceil(candidate.pairs * ((gain.mean - gain.low) / (gain.mean - limit)) ** 2) + 1


def _measured(policy: GatePolicy, abilities: Sequence[Ability] | None) -> tuple[Ability, ...]:
    return tuple(one for one in abilities or () if one.pairs >= policy.forgetting_min)


def forgotten(policy: GatePolicy, abilities: Sequence[Ability] | None) -> Ability | None:
    """Finds the old ability that fell most, if one fell by more than its limit; those that surely fell go first.

    A larger fall that may be chance says nothing for a smaller one that is none.
    """
    falls = [one for one in _measured(policy, abilities) if one.change.mean < -policy.forgetting_max]
    return min(falls, key=lambda one: (one.change.high >= 0.0, one.change.mean), default=None)


def _held(policy: GatePolicy, abilities: Sequence[Ability] | None) -> str:
    measured = _measured(policy, abilities)
    if not measured:
        return ""
    return "; kept: " + ", ".join(f"{one.name} {one.before:.4f} → {one.after:.4f}" for one in measured)


def is_remembered(event: OutcomeRewarded) -> bool:
    """Says whether a verdict is taken up as a signal: what became of a retrain or a mutation belongs into memory."""
    return event.subject != "outcomes"


def failure_is_final(state: AgentState) -> bool:
    """Says whether the failure of the cycle in progress is one too many in a row to start another."""
    return state.failures + 1 >= state.policy.cycle.failures_max


def change_key(event: ChangeObserved) -> str:
    """Names a change by what it changes, so that the same change is not judged twice."""
    return f"{event.path}:{(event.before or '-')[:16]}:{(event.after or '-')[:16]}"


# ---- guards: the conditions of the machine's transitions -----------------------------------------------------------

Guard = Callable[[AgentState, AnyEvent, int], bool]


def takes_signals(_state: AgentState, event: AnyEvent, _now_us: int) -> bool:
    """The cycle was started by changes and feedback."""
    return isinstance(event, CycleStarted) and event.entry == "signals"


def takes_self_train(_state: AgentState, event: AnyEvent, _now_us: int) -> bool:
    """The cycle was started by an explicit order to train."""
    return isinstance(event, CycleStarted) and event.entry == "self_train"


def takes_mutation(_state: AgentState, event: AnyEvent, _now_us: int) -> bool:
    """The cycle was started by a proposed mutation."""
    return isinstance(event, CycleStarted) and event.entry == "mutate"


def trigger_holds(state: AgentState, event: AnyEvent, _now_us: int) -> bool:
    """A trigger policy holds."""
    return isinstance(event, SignalEmbedded) and bool(triggers(state, event))


def outcome_to_judge(_state: AgentState, event: AnyEvent, _now_us: int) -> bool:
    """An outcome was reported, so there is something to reward."""
    return isinstance(event, SignalEmbedded) and bool({item.outcome for item in event.items} - {None})


def enough_to_learn(state: AgentState, event: AnyEvent, now_us: int) -> bool:
    """The data set holds enough that the last training had not, and the hourly budget is not used up."""
    return isinstance(event, DatasetGenerated) and worth_training(state, event) and may_retrain(state, now_us)


def rows_to_embed(_state: AgentState, event: AnyEvent, _now_us: int) -> bool:
    """A rollback that leaves checkpoint or memory as it is needs rows in the space that will be active."""
    return isinstance(event, MemoryReembedded) and bool(event.rows)


def worth_training(state: AgentState, event: DatasetGenerated) -> bool:
    """Says whether a data set holds enough that is new; an explicit order to train asks only for enough.

    Where the order names a recipe, the rows of the last training will do.
    """
    cycle = state.cycle
    again = cycle is not None and cycle.again
    if state.checkpoint is None or not event.train or (event.dataset == state.trained and not again):
        return False
    ordered = cycle is not None and cycle.entry == "self_train"
    rows_min = state.policy.retrain.rows_min
    return event.train >= rows_min if ordered else event.train - state.trained_rows >= rows_min


def enough_rows(state: AgentState, event: DatasetGenerated) -> str:
    """Says why a data set was not trained on, from the state that it was generated in."""
    policy, cycle = state.policy.retrain, state.cycle
    if state.checkpoint is None:
        return "this workspace has no model"
    if not event.train:
        return "there is no row to learn"
    if event.dataset == state.trained and not (cycle is not None and cycle.again):
        return "the last training had the same data set"
    if event.train < policy.rows_min:
        return f"{event.train} rows to learn are fewer than policy.retrain.rows_min, {policy.rows_min}"
    if not worth_training(state, event):
        new = event.train - state.trained_rows
        return f"{new} rows more than the last training had are fewer than policy.retrain.rows_min, {policy.rows_min}"
    return f"the budget of {policy.per_hour_max} retrains an hour is used up"


GUARDS: dict[str, Guard] = {
    guard.__name__: guard
    for guard in (
        takes_signals,
        takes_self_train,
        takes_mutation,
        trigger_holds,
        outcome_to_judge,
        enough_to_learn,
        rows_to_embed,
    )
}
