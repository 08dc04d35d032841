"""The fold: what each event does to the state, and what it refuses."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from instar.fsm import events as e
from instar.fsm.errors import IllegalTransition
from instar.fsm.evolve import evolve
from instar.fsm.policy import CyclePolicy, RetrainPolicy
from instar.fsm.react import EffectName, react
from instar.fsm.state import AgentState, decode_state, encode_state, state_digest
from instar.fsm.words import Digest, Seq, State
from tests.fsm.builders import (
    BASE,
    CHANGE,
    EVENTS,
    FEEDBACK,
    INIT,
    NEW,
    TREE,
    D,
    cycle_at_training,
    dataset,
    embedded,
    fold,
    fresh,
    item,
    rewarded,
    settled,
    start,
    trained,
)


def test_first_event_must_be_workspace_initialized() -> None:
    with pytest.raises(IllegalTransition, match="first event"):
        fold(AgentState(), FEEDBACK)
    with pytest.raises(IllegalTransition, match="first event"):
        fold(fresh(), INIT)


def test_event_out_of_place_is_refused() -> None:
    with pytest.raises(IllegalTransition, match="does not follow"):
        evolve(fresh(), FEEDBACK, seq=Seq(3), cause=None, at_us=0)


def test_signals_wait_in_runs_and_tasks_stand_alone() -> None:
    state = fold(fresh(), FEEDBACK, FEEDBACK, e.TaskQueued(task="self_train", source="t"), FEEDBACK)
    assert [(run.entry, run.first, run.last, run.count) for run in state.waiting] == [
        ("signals", 2, 3, 2),
        ("self_train", 4, 4, 1),
        ("signals", 5, 5, 1),
    ]
    assert react(state) is not None
    assert react(state).name is EffectName.START_CYCLE  # type: ignore[union-attr]


def test_cycle_must_take_up_what_waited_longest() -> None:
    state = fold(fresh(), FEEDBACK, e.TaskQueued(task="self_train", source="t"))
    with pytest.raises(IllegalTransition, match="waits first"):
        fold(state, e.CycleStarted(entry="self_train", span=e.Span(Seq(3), Seq(3)), count=1))
    with pytest.raises(IllegalTransition, match="waits first"):
        fold(state, e.CycleStarted(entry="signals", span=e.Span(Seq(2), Seq(3)), count=1))


def test_part_of_a_run_leaves_the_rest_waiting() -> None:
    state = fold(fresh(cycle=CyclePolicy(signals_max=2)), *[FEEDBACK] * 5)
    state = fold(state, e.CycleStarted(entry="signals", span=e.Span(Seq(2), Seq(3)), count=2))
    assert state.waiting_count == 3
    assert state.waiting[0].first == 4


def test_signal_while_busy_waits_in_the_log() -> None:
    state = cycle_at_training()
    after = fold(state, FEEDBACK, CHANGE, e.TaskQueued(task="self_train", source="t"))
    assert after.machine is State.TRAINING
    assert after.since == state.since
    assert after.waiting_count == 3


def test_answer_to_another_question_is_refused() -> None:
    state = cycle_at_training()
    with pytest.raises(IllegalTransition, match="answers event"):
        evolve(state, trained(), seq=Seq(state.head + 1), cause=Seq(1), at_us=0)


def test_second_outcome_of_an_effect_is_refused() -> None:
    state = cycle_at_training()
    done = fold(state, trained())
    with pytest.raises(IllegalTransition):
        evolve(done, trained(), seq=Seq(done.head + 1), cause=state.since, at_us=0)


def test_promotion_needs_gate_candidate_and_reembedded_memory() -> None:
    promoted = rewarded("promoted", subject="checkpoint", checkpoint=NEW)
    reembedded = e.MemoryReembedded(space=NEW, rows=((Seq(5), 0),), vectors=D, dim=384)
    state = fold(cycle_at_training(), trained())
    with pytest.raises(IllegalTransition, match="embedded again"):
        fold(state, promoted)
    with pytest.raises(IllegalTransition, match="only the checkpoint that this cycle trained"):
        fold(state, reembedded, replace(promoted, checkpoint=BASE))
    assert fold(state, reembedded, promoted).checkpoint == NEW
    noisy = fold(cycle_at_training(), trained(gain=e.Interval(0.1, -0.01, 0.2)))
    with pytest.raises(IllegalTransition, match="gate"):
        fold(noisy, reembedded, promoted)


def test_dataset_that_was_learned_is_not_learned_again() -> None:
    state = fold(cycle_at_training(), trained(), rewarded("rejected", subject="checkpoint"))
    state = settled(fold(state, e.PlanChosen(steps=(), planner="b")))
    state = fold(state, e.TaskQueued(task="self_train", source="t"))
    state = fold(state, start(state), e.RetrainFlagged(triggers=(), path="p", content=D))
    assert fold(state, dataset()).machine is State.REWARDING
    assert fold(state, replace(dataset(), dataset=NEW)).machine is State.TRAINING


def test_verdict_on_a_retrain_is_taken_up_and_remembered() -> None:
    state = fold(cycle_at_training(), trained(), rewarded("rejected", subject="checkpoint"))
    assert state.waiting_count == 1
    state = settled(fold(state, e.PlanChosen(steps=(), planner="b")))
    assert (state.machine, state.waiting_count) == (State.IDLE, 0)
    assert fold(cycle_at_training(), trained(), rewarded()).waiting_count == 0


def test_retrain_by_itself_waits_for_enough_new_rows() -> None:
    state = fold(cycle_at_training(), trained(), rewarded("rejected", subject="checkpoint"))
    state = fold(settled(fold(state, e.PlanChosen(steps=(), planner="b"))), FEEDBACK)
    state = fold(state, start(state), e.DiffComputed(items=()), embedded(item(state.head, outcome="fail")))
    state = fold(state, e.RetrainFlagged(triggers=(), path="p", content=D))
    assert state.trained_rows == 100
    assert fold(state, replace(dataset(115), dataset=NEW)).machine is State.REWARDING
    assert fold(state, replace(dataset(116), dataset=NEW)).machine is State.TRAINING


def test_rollback_brings_back_what_had_been_learned() -> None:
    state = fold(cycle_at_training(), trained())
    assert (state.trained, state.trained_rows) == (D, 100)
    before = e.RollbackStarted(target=Seq(1), plan=D, tree=TREE, checkpoint=BASE, memory=(), reason="r")
    assert fold(state, before).trained is None
    again = replace(before, trained=D, trained_rows=100)
    assert (fold(state, again).trained, fold(state, again).trained_rows) == (D, 100)


def test_retrain_budget_holds_for_an_hour_of_recorded_time() -> None:
    state = fresh(retrain=RetrainPolicy(per_hour_max=1))

    def until_dataset(state: AgentState, digest: Digest, at_us: int) -> AgentState:
        state = fold(state, e.TaskQueued(task="self_train", source="t"), at_us=at_us)
        state = fold(state, start(state), e.RetrainFlagged(triggers=(), path="p", content=D), at_us=at_us)
        return fold(state, replace(dataset(), dataset=digest), at_us=at_us)

    first = until_dataset(state, D, 1)
    assert first.machine is State.TRAINING
    done = fold(first, trained(), rewarded("rejected", subject="checkpoint"), e.PlanChosen(steps=(), planner="b"))
    done = settled(done)
    again = until_dataset(done, NEW, 2)
    assert again.machine is State.REWARDING
    assert again.suppressed == 1
    assert until_dataset(done, NEW, 3_600_000_002).machine is State.TRAINING


def test_same_change_is_taken_up_once() -> None:
    state = fold(fresh(), CHANGE)
    with pytest.raises(IllegalTransition, match="seen before"):
        fold(state, CHANGE)
    again = fold(state, replace(CHANGE, seen=True))
    assert again.waiting_count == 1
    assert again.tree == CHANGE.tree


def test_failed_cycle_takes_its_signals_up_again_until_too_many_failed() -> None:
    state = fold(fresh(cycle=CyclePolicy(failures_max=2)), FEEDBACK, FEEDBACK)
    state = fold(state, start(state), e.EffectFailed(effect="diff", reason="r"))
    assert state.machine is State.IDLE
    assert state.waiting_count == 3
    state = fold(state, start(state))
    with pytest.raises(IllegalTransition, match="last one"):
        fold(state, e.EffectFailed(effect="diff", reason="r"))
    state = fold(state, e.EffectFailed(effect="diff", reason="r", final=True))
    assert state.waiting_count == 0


def test_rollback_stops_the_cycle_and_waits_to_be_finished() -> None:
    state = fold(fresh(), FEEDBACK)
    state = fold(state, start(state))
    begun = fold(state, e.RollbackStarted(target=Seq(1), plan=D, tree=TREE, checkpoint=BASE, memory=(), reason="r"))
    assert begun.machine is State.IDLE
    assert begun.waiting_count == 1
    assert react(begun).name is EffectName.ROLL_FORWARD  # type: ignore[union-attr]
    with pytest.raises(IllegalTransition, match="must wait"):
        fold(begun, start(begun))
    assert fold(begun, FEEDBACK).restoring is not None
    finished = fold(begun, e.RollbackFinished(started=Seq(begun.head), tree=TREE, checkpoint=BASE))
    assert finished.restoring is None
    assert finished.tree == TREE


def test_memory_after_a_rollback_hides_what_came_between() -> None:
    state = fold(fresh(), FEEDBACK)
    state = fold(state, start(state), e.DiffComputed(items=()), embedded(item(2)))
    assert state.memory == (e.Span(Seq(5), Seq(5)),)
    back = e.RollbackStarted(target=Seq(1), plan=D, tree=TREE, checkpoint=BASE, memory=(), reason="r")
    state = fold(state, back, e.RollbackFinished(started=Seq(6), tree=TREE, checkpoint=BASE), FEEDBACK)
    state = fold(state, start(state), e.DiffComputed(items=()), embedded(item(8)))
    assert state.memory == (e.Span(Seq(11), Seq(11)),)


def test_mutation_goes_through_planning_rewarding_planning() -> None:
    state = fold(fresh(), e.TaskQueued(task="mutate", source="t", patch=D))
    state = fold(state, start(state))
    assert react(state).name is EffectName.MUTATE  # type: ignore[union-attr]
    accepted = next(event for event in EVENTS if isinstance(event, e.MutationAccepted))
    state = fold(state, accepted)
    assert react(state).name is EffectName.ROLL_FORWARD  # type: ignore[union-attr]
    state = fold(state, e.MutationApplied(task=Seq(2), tree=NEW))
    assert state.machine is State.REWARDING
    assert state.tree == NEW
    state = fold(state, rewarded("kept", subject="mutation"))
    assert react(state).name is EffectName.PLAN  # type: ignore[union-attr]
    assert fold(state, e.PlanChosen(steps=(), planner="b")).machine is State.IDLE


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(range(len(EVENTS))), max_size=60))
def test_any_log_folds_to_one_state_from_any_snapshot(choices: list[int]) -> None:
    states = [fresh()]
    accepted: list[tuple[e.AnyEvent, Seq | None]] = []
    for choice in choices:
        event = EVENTS[choice]
        state = states[-1]
        if isinstance(event, e.CycleStarted) and state.waiting:
            event = start(state)
        if isinstance(event, e.ChangeObserved) and state.judged:
            event = replace(event, seen=True)
        effect = react(state)
        cause = effect.answers if effect else None
        if isinstance(event, e.CycleStarted):
            cause = event.span.last
        try:
            states.append(evolve(state, event, seq=Seq(state.head + 1), cause=cause, at_us=state.head))
        except IllegalTransition:
            continue
        accepted.append((event, cause))
    for position, snapshot in enumerate(states):
        state = decode_state(encode_state(snapshot))
        for event, cause in accepted[position:]:
            state = evolve(state, event, seq=Seq(state.head + 1), cause=cause, at_us=state.head)
        assert state_digest(state) == state_digest(states[-1])
