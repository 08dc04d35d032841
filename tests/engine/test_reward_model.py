from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instar import Engine
from instar.engine import extensions
from instar.engine.extensions import load_extension
from instar.engine.planner_agent import BuiltinPlanner
from instar.engine.reward_model import BuiltinRewardModel, score_checkpoint, score_mutation
from instar.engine.worker import Worker
from instar.fsm.errors import ConfigError
from instar.fsm.events import EffectFailed, EmbeddedItem, FeedbackReceived, Interval, PlanStep
from instar.fsm.policy import Policy
from instar.fsm.rewards import Standing
from instar.fsm.words import Seq
from tests.engine.agents import agent_folder
from tests.engine.tiny_model import tiny_model

shares = st.floats(0.0, 1.0)
maybe_shares = st.none() | shares


def feedback(**fields: Any) -> FeedbackReceived:
    return FeedbackReceived(**{"task_type": "scrape", "input": "x", **fields})


def score(**fields: Any) -> float:
    return BuiltinRewardModel().score(feedback(**fields), None)


@given(maybe_shares, maybe_shares, maybe_shares)
def test_every_failure_is_worse_than_a_skip_and_every_skip_than_a_pass(
    first: float | None, second: float | None, third: float | None
) -> None:
    failed = score(outcome="fail", confidence=first, output="a b", reference="a b")
    assert 0.0 <= failed < score(outcome="skip", confidence=second) < score(outcome="pass", confidence=third) <= 1.0


@given(shares, shares)
def test_confidence_pays_when_right_and_costs_when_wrong(first: float, second: float) -> None:
    low, high = sorted((first, second))
    assert score(outcome="pass", confidence=low) <= score(outcome="pass", confidence=high)
    assert score(outcome="fail", confidence=low) >= score(outcome="fail", confidence=high)


def test_plain_pass_is_one_and_plain_failure_zero() -> None:
    assert score(outcome="pass") == 1.0
    assert score(outcome="fail") == 0.0
    assert score(outcome="skip") < Policy().reward.threshold


def test_near_miss_is_better_than_nonsense() -> None:
    near = score(outcome="fail", output="open the page", reference="open the site")
    assert near > score(outcome="fail", output="bananas", reference="open the site")
    assert score(outcome="fail", output="", reference="open the site") == 0.0


@pytest.mark.parametrize(("given_reward", "expected"), [(0.3, 0.3), (0.0, 0.0), (7.0, 1.0), (-2.0, 0.0)])
def test_explicit_reward_wins_and_is_clamped(given_reward: float, expected: float) -> None:
    for outcome in ("pass", "fail", "skip"):
        assert score(outcome=outcome, reward=given_reward) == expected


def test_reward_that_is_no_number_is_passed_over() -> None:
    assert score(outcome="pass", reward=math.nan) == 1.0
    assert score(outcome="pass", confidence=math.nan) == 1.0


def test_confidence_of_the_memory_row_stands_in() -> None:
    row = EmbeddedItem(seq=Seq(1), kind="feedback", unit="scrape", text="x", row=0, confidence=0.5)
    assert BuiltinRewardModel().score(feedback(outcome="pass"), row) == 0.75
    assert BuiltinRewardModel().score(feedback(outcome="pass", confidence=1.0), row) == 1.0


def test_mutation_that_reached_its_gate_is_worth_more_than_one_that_did_not() -> None:
    assert score_mutation(True) > score_mutation(False, gate_ran=True) > score_mutation(False) == 0.0


@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(0.001, 1))
def test_checkpoint_score_rises_with_the_gain(first: float, second: float, half: float) -> None:
    low, high = sorted((first, second))
    worse = score_checkpoint(Interval(low, low - half, low + half))
    better = score_checkpoint(Interval(high, high - half, high + half))
    assert 0.0 <= worse <= better <= 1.0


def test_checkpoint_score_is_a_chance() -> None:
    assert score_checkpoint(Interval(0.0, -0.1, 0.1)) == 0.5
    # A 95 % interval that just touches zero leaves 2.5 % below it.
    assert score_checkpoint(Interval(0.1, 0.0, 0.2)) == pytest.approx(0.975, abs=1e-6)
    assert score_checkpoint(Interval(0.1, 0.0, 0.2), 0.9) == pytest.approx(0.95, abs=1e-6)
    assert score_checkpoint(Interval(0.1, 0.1, 0.1)) == 1.0
    assert score_checkpoint(Interval(-0.1, -0.1, -0.1)) == 0.0
    assert score_checkpoint(Interval(0.0, 0.0, 0.0)) == 0.5


class OddPlanner:
    name = "odd"

    def plan(self, standings: Mapping[str, Standing], policy: Policy) -> tuple[PlanStep, ...]:
        return ()


class NoPlanner:
    name = "none"


class Demanding(OddPlanner):
    def __init__(self, wish: str) -> None:
        self.wish = wish


class Wild:
    """A reward model, and a planner, of answers that no log can hold."""

    name = "wild"

    def __init__(self, answer: object) -> None:
        self.answer = answer

    def score(self, outcome: object, item: object) -> Any:
        return self.answer

    def plan(self, standings: object, policy: object) -> Any:
        return self.answer


ready_made = OddPlanner()


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> str:
    """This module under a name that can be imported, however pytest loaded it."""
    module = ModuleType("odd_plugins")
    module.__dict__.update(OddPlanner=OddPlanner, NoPlanner=NoPlanner, Demanding=Demanding, ready_made=ready_made)
    monkeypatch.setitem(sys.modules, "odd_plugins", module)
    return "odd_plugins"


def test_builtin_is_made() -> None:
    assert isinstance(load_extension("instar.planners", "builtin", BuiltinPlanner), BuiltinPlanner)


def test_path_gives_a_class_made_or_an_instance_as_it_is(here: str) -> None:
    assert isinstance(load_extension("instar.planners", f"{here}:OddPlanner"), OddPlanner)
    assert load_extension("instar.planners", f"{here}:ready_made") is ready_made


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("odd_plugins:NoPlanner", "it has no plan"),
        ("odd_plugins:Demanding", "without arguments"),
        ("odd_plugins:absent", "cannot be loaded"),
        ("no_such_module:x", "cannot be loaded"),
        ("unheard", "known are builtin"),
    ],
)
def test_extension_that_cannot_serve_is_a_config_error(here: str, name: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        load_extension("instar.planners", name)


def test_unknown_kind_of_extension_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match=r"instar\.reward_models"):
        load_extension("instar.nonsense", "builtin", OddPlanner)


def test_entry_point_is_loaded_by_its_name(here: str, monkeypatch: pytest.MonkeyPatch) -> None:
    points = [
        EntryPoint("odd", f"{here}:OddPlanner", "instar.planners"),
        EntryPoint("twice", f"{here}:OddPlanner", "instar.planners"),
        EntryPoint("twice", f"{here}:ready_made", "instar.planners"),
        EntryPoint("torn", f"{here}:absent", "instar.planners"),
    ]
    monkeypatch.setattr(extensions, "entry_points", lambda group: [point for point in points if point.group == group])
    assert isinstance(load_extension("instar.planners", "odd"), OddPlanner)
    with pytest.raises(ConfigError, match="claimed by"):
        load_extension("instar.planners", "twice")
    with pytest.raises(ConfigError, match="torn"):
        load_extension("instar.planners", "torn")
    with pytest.raises(ConfigError, match="builtin, odd, torn, twice"):
        load_extension("instar.planners", "nope")


@pytest.mark.parametrize(
    ("port", "answer", "said"),
    [
        ("reward_model", math.nan, "the reward model wild gave nan for event"),
        ("reward_model", math.inf, "the reward model wild gave inf for event"),
        ("reward_model", 1.5, "the reward model wild gave 1.5 for event"),
        ("reward_model", "good", "a score is a number"),
        ("planner", ("rest",), "the planner wild gave what is no plan"),
        ("planner", 5, "the planner wild failed: TypeError"),
    ],
)
def test_answer_that_no_log_can_hold_is_a_failed_effect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, port: str, answer: object, said: str
) -> None:
    module = ModuleType("wild_plugins")
    module.__dict__["wild"] = Wild(answer)
    monkeypatch.setitem(sys.modules, "wild_plugins", module)
    root = agent_folder(tmp_path / "agent")
    tiny_model(tmp_path / "model")
    (root / "instar.toml").write_text(
        f'model = "{tmp_path / "model"}"\n[plugins]\n{port} = "wild_plugins:wild"\n'
        "[policy]\ncycle = { failures_max = 1 }\n"
    )
    with Engine(root, worker=False) as engine:
        engine.feedback(task_type="t", input="a task", output="x", outcome="fail")
        Worker(engine.runtime).run_once()
        failures = [one.event for one in engine.events() if isinstance(one.event, EffectFailed)]
        assert failures
        assert all(said in failure.reason for failure in failures)
        assert engine.status().state == "Idle"
        assert engine.replay().events == engine.status().head  # and the log is whole
