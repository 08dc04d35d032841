"""The four triggers and the promotion gate."""

from __future__ import annotations

import math

import pytest
from immutables import Map
from msgspec.structs import replace

from instar.fsm import events as e
from instar.fsm.errors import IllegalTransition
from instar.fsm.policies import enough_rows, explicit, promotion, triggers, worth_training
from instar.fsm.policy import GatePolicy, RewardPolicy
from instar.fsm.rewards import Standing, credit, is_low, ranking
from instar.fsm.state import AgentState, Candidate
from instar.fsm.words import Seq, State
from tests.fsm.builders import BASE, GAIN, NEW, embedded, fold, fresh, item, rewarded


def names(event: e.SignalEmbedded) -> list[str]:
    return [trigger.policy for trigger in triggers(fresh(), event)]


def test_code_mutation_needs_a_monitored_file_and_a_change_of_meaning() -> None:
    assert names(embedded(item(2, monitored=True, meaning_changed=True))) == ["code_mutation"]
    assert names(embedded(item(2, monitored=True, meaning_changed=False))) == []
    assert names(embedded(item(2, monitored=False, meaning_changed=True))) == []


@pytest.mark.parametrize(("similarity", "flagged"), [(0.69, True), (0.70, False), (1.0, False)])
def test_semantic_drift_holds_under_its_threshold(similarity: float, flagged: bool) -> None:
    event = embedded(item(2, similarity=similarity, meaning_changed=True))
    assert names(event) == (["semantic_drift"] if flagged else [])


def test_semantic_drift_ignores_a_cosmetic_edit() -> None:
    assert names(embedded(item(2, similarity=0.1, meaning_changed=False))) == []


@pytest.mark.parametrize(("confidence", "flagged"), [(0.699, True), (0.70, False)])
def test_low_confidence_is_drift(confidence: float, flagged: bool) -> None:
    assert names(embedded(item(2, confidence=confidence, outcome="pass"))) == (["semantic_drift"] if flagged else [])


def test_explicit_task_names_the_event_it_rests_on() -> None:
    trigger = explicit(e.CycleStarted(entry="self_train", span=e.Span(Seq(7), Seq(7)), count=1))
    assert (trigger.policy, trigger.events) == ("explicit_task", (7,))


def test_failure_and_low_reward_are_feedback_triggers() -> None:
    assert names(embedded(item(2, outcome="fail"))) == ["feedback"]
    assert names(embedded(item(2, outcome="pass", reward=0.49))) == ["feedback"]
    assert names(embedded(item(2, outcome="pass", reward=0.5))) == []


def test_task_type_whose_rewards_fell_is_a_feedback_trigger() -> None:
    low = Standing(task_type="find", count=5, mean=0.2, passes=1, fails=4, skips=0, last=Seq(2))
    state = replace(fresh(), standings=Map({"find": low}))
    (trigger,) = triggers(state, embedded(item(9, outcome="pass", task_type="find")))
    assert (trigger.policy, trigger.value, trigger.events) == ("feedback", 0.2, (9,))


def test_triggers_say_value_threshold_and_events() -> None:
    event = embedded(item(2, confidence=0.4, outcome="fail"), item(3, confidence=0.6, outcome="pass"))
    drift, feedback = triggers(fresh(), event)
    assert (drift.value, drift.threshold, drift.events) == (0.4, 0.70, (2, 3))
    assert (feedback.value, feedback.threshold, feedback.events) == (0.0, 0.5, (2,))


@pytest.mark.parametrize(
    ("gain", "pairs", "expected", "before_version_3"),
    [
        (GAIN, 40, "promoted", "promoted"),
        (e.Interval(0.1, 0.0, 0.2), 40, "undecided", "rejected"),
        (e.Interval(0.0, 0.0, 0.0), 40, "rejected", "rejected"),
        (e.Interval(-0.1, -0.2, 0.05), 40, "rejected", "rejected"),
        (e.Interval(-0.1, -0.2, -0.05), 40, "rejected", "rejected"),
        (GAIN, 7, "undecided", "rejected"),
    ],
)
def test_promotion_needs_a_whole_interval_above_zero(
    gain: e.Interval, pairs: int, expected: str, before_version_3: str
) -> None:
    old, _ = promotion(GatePolicy(), Candidate(Seq(9), NEW, gain, pairs))
    verdict, reason = promotion(GatePolicy(), Candidate(Seq(9), NEW, gain, pairs, ()))
    assert (verdict, old) == (expected, before_version_3)
    assert f"{gain.mean:+.4f}" in reason


def ability(name: str, change: e.Interval, pairs: int = 100) -> e.Ability:
    return e.Ability(name, pairs, 0.8, 0.8 + change.mean, change)


@pytest.mark.parametrize(
    ("change", "pairs", "expected"),
    [
        (e.Interval(0.02, 0.01, 0.03), 100, "promoted"),
        (e.Interval(-0.019, -0.03, -0.001), 100, "promoted"),  # it fell, but within the limit
        (e.Interval(-0.021, -0.03, -0.001), 100, "rejected"),
        (e.Interval(-0.021, -0.04, 0.005), 100, "undecided"),  # which may be chance
        (e.Interval(-0.5, -0.6, -0.4), 19, "promoted"),  # too few cases to say anything
    ],
)
def test_nothing_old_may_fall_by_more_than_its_limit(change: e.Interval, pairs: int, expected: str) -> None:
    abilities = (ability("own", e.Interval(0.0, -0.01, 0.01)), ability("general", change, pairs))
    verdict, reason = promotion(GatePolicy(), Candidate(Seq(9), NEW, GAIN, 40, abilities))
    assert verdict == expected
    assert ("general" in reason) == (expected != "promoted" or pairs >= 20)
    mild = promotion(GatePolicy(forgetting_max=0.6), Candidate(Seq(9), NEW, GAIN, 40, abilities))
    assert mild[0] == "promoted"


@pytest.mark.parametrize("order", [1, -1])
def test_larger_fall_that_may_be_chance_hides_no_smaller_one_that_is_none(order: int) -> None:
    noisy, sure = ability("noisy", e.Interval(-0.1, -0.3, 0.1)), ability("sure", e.Interval(-0.05, -0.06, -0.04))
    verdict, reason = promotion(GatePolicy(), Candidate(Seq(9), NEW, GAIN, 40, (noisy, sure)[::order]))
    assert verdict == "rejected"
    assert "sure fell" in reason
    assert promotion(GatePolicy(), Candidate(Seq(9), NEW, GAIN, 40, (noisy,)))[0] == "undecided"


def test_gain_that_is_no_number_promotes_nothing() -> None:
    gain = e.Interval(math.nan, math.nan, math.nan)
    assert promotion(GatePolicy(), Candidate(Seq(9), NEW, gain, 40, None))[0] == "rejected"


def test_undecided_says_how_many_pairs_would_decide() -> None:
    gain = e.Interval(0.02, -0.02, 0.06)  # half as wide with four times the pairs: just above zero
    verdict, reason = promotion(GatePolicy(), Candidate(Seq(9), NEW, gain, 25, ()))
    assert verdict == "undecided"
    assert "about 101 would decide" in reason


def test_temperatures_reach_the_state_with_their_checkpoints() -> None:
    from msgspec.structs import replace

    from tests.fsm.builders import cycle_at_training, trained

    told = replace(trained(), abilities=(), temperature=0.03, base_temperature=0.05)
    judged = fold(cycle_at_training(), told)
    again = e.MemoryReembedded(space=NEW, rows=((Seq(4), 0),), vectors=NEW, dim=384)
    state = fold(judged, again, rewarded("promoted", subject="checkpoint", checkpoint=NEW))
    assert dict(state.calibrations) == {BASE: 0.05, NEW: 0.03}
    state = fold(judged, rewarded("undecided", subject="checkpoint"))
    assert (dict(state.calibrations), state.checkpoint) == ({BASE: 0.05}, BASE)


def test_cancelled_training_ends_the_cycle_and_starts_no_other() -> None:
    from tests.fsm.builders import cycle_at_training

    state = cycle_at_training()
    assert state.cycle is not None
    ended = fold(state, e.EffectFailed(effect="train", reason="cancelled on request", cancelled=True))
    assert (ended.machine, ended.waiting, ended.failures) == (State.IDLE, state.waiting, state.failures)
    assert ended.trained_rows == state.cycle.rows
    assert ended.trained == state.trained  # an explicit order may train on these rows after all
    with pytest.raises(IllegalTransition, match="only a training"):
        fold(start_of_cycle(), e.EffectFailed(effect="diff", reason="r", cancelled=True))


@pytest.mark.parametrize(("recipe", "trains"), [({}, False), ({"epochs": 3}, True)])
def test_order_that_names_a_recipe_may_learn_the_same_rows_again(
    recipe: dict[str, float | int | str], trains: bool
) -> None:
    from tests.fsm.builders import dataset, start

    state = replace(fresh(), trained=dataset().dataset, trained_rows=100)
    state = fold(state, e.TaskQueued(task="self_train", source="t", recipe=recipe))
    state = fold(state, start(state))
    assert worth_training(state, dataset()) is trains
    other = replace(dataset(), dataset=NEW)
    assert worth_training(state, other) is True
    assert worth_training(state, replace(other, train=1)) is False


@pytest.mark.parametrize(
    ("recipe", "train", "same", "told"),
    [
        ({}, 100, True, "the last training had the same data set"),
        ({"epochs": 3}, 1, True, "1 rows to learn are fewer than policy.retrain.rows_min, 16"),
        ({}, 1, False, "1 rows to learn are fewer than policy.retrain.rows_min, 16"),
        ({"epochs": 3}, 100, True, "the budget of 12 retrains an hour is used up"),
        (None, 101, False, "1 rows more than the last training had are fewer than policy.retrain.rows_min, 16"),
    ],
)
def test_why_nothing_was_trained_is_the_true_reason(
    recipe: dict[str, float | int | str] | None, train: int, same: bool, told: str
) -> None:
    from tests.fsm.builders import FEEDBACK, dataset, start

    event = dataset(train)
    state = replace(fresh(), trained=event.dataset if same else NEW, trained_rows=100)
    order = FEEDBACK if recipe is None else e.TaskQueued(task="self_train", source="t", recipe=recipe)
    state = fold(state, order)
    state = fold(state, start(state))
    assert enough_rows(state, event) == told


def start_of_cycle() -> AgentState:
    from tests.fsm.builders import FEEDBACK, start

    state = fold(fresh(), FEEDBACK)
    return fold(state, start(state))


def test_rewards_fold_to_an_exponential_mean_and_rank() -> None:
    policy = RewardPolicy(smoothing=0.5)
    good = [e.Reward(Seq(n), "a", 1.0, "pass") for n in range(2, 6)]
    bad = [e.Reward(Seq(6), "b", 0.0, "fail"), e.Reward(Seq(7), "b", 1.0, "pass")]
    standings = credit(Map(), [*good, *bad], policy)
    assert standings["a"].mean == 1.0
    assert standings["b"] == Standing(task_type="b", count=2, mean=0.5, passes=1, fails=1, skips=0, last=Seq(7))
    assert [standing.task_type for standing in ranking(standings)] == ["a", "b"]
    assert not is_low(standings["b"], RewardPolicy(threshold=0.6, count_min=5))


def test_recorded_rewards_reach_the_state() -> None:
    from tests.fsm.builders import FEEDBACK, start

    state = fold(fresh(), FEEDBACK)
    state = fold(state, start(state), e.DiffComputed(items=()), embedded(item(2, outcome="pass"), space=BASE))
    state = fold(state, rewarded(rewards=(e.Reward(Seq(2), "find", 0.8, "pass"),)))
    assert state.standings["find"].mean == 0.8
