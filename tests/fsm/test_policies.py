"""The four triggers of SEED.md and the promotion gate."""

from __future__ import annotations

import pytest
from immutables import Map
from msgspec.structs import replace

from instar.fsm import events as e
from instar.fsm.policies import explicit, promotion, triggers
from instar.fsm.policy import GatePolicy, RewardPolicy
from instar.fsm.rewards import Standing, credit, is_low, ranking
from instar.fsm.state import Candidate
from instar.fsm.words import Seq
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
    ("gain", "pairs", "admitted"),
    [
        (GAIN, 40, True),
        (e.Interval(0.1, 0.0, 0.2), 40, False),
        (e.Interval(-0.1, -0.2, -0.05), 40, False),
        (GAIN, 7, False),
    ],
)
def test_promotion_needs_a_whole_interval_above_zero(gain: e.Interval, pairs: int, admitted: bool) -> None:
    verdict, reason = promotion(GatePolicy(), Candidate(Seq(9), NEW, gain, pairs))
    assert verdict is admitted
    assert f"{gain.mean:+.4f}" in reason


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
