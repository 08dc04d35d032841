from __future__ import annotations

import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instar.engine.planner_agent import STEPS_MAX, BuiltinPlanner, need
from instar.fsm.events import PlanStep
from instar.fsm.policy import Policy
from instar.fsm.rewards import Standing
from instar.fsm.words import Seq


def standing(name: str, **fields: Any) -> Standing:
    known = {"count": 20, "mean": 0.8, "passes": 16, "fails": 4, "skips": 0, "last": Seq(50)}
    return Standing(task_type=name, **{**known, **fields})


def plan(*standings: Standing) -> dict[str, PlanStep]:
    steps = BuiltinPlanner().plan({one.task_type: one for one in standings}, Policy())
    return {step.task_type: step for step in steps}


RETRAIN = standing("retrain", count=1, mean=0.99, passes=1, fails=0, last=Seq(40))


@pytest.mark.parametrize(
    ("fields", "strategy"),
    [
        ({"mean": 0.8}, "keep"),
        ({"mean": 0.5}, "keep"),
        ({"mean": 0.2, "passes": 8, "fails": 12}, "retrain"),
        ({"mean": 0.2, "passes": 8, "fails": 0, "skips": 12}, "retrain"),
        ({"mean": 0.2, "count": 4, "passes": 0}, "explore"),
        ({"mean": 0.9, "count": 1, "passes": 1, "fails": 0}, "explore"),
        ({"mean": 0.3, "passes": 18, "fails": 2}, "explore"),
    ],
)
def test_strategy_follows_reward_and_number_of_outcomes(fields: dict[str, Any], strategy: str) -> None:
    assert plan(standing("scrape", **fields))["scrape"].strategy == strategy


def test_low_reward_after_a_retrain_asks_for_review() -> None:
    low = standing("scrape", mean=0.2, fails=12, last=Seq(50))
    assert plan(low, RETRAIN)["scrape"].strategy == "review"
    assert "event 40" in plan(low, RETRAIN)["scrape"].reason
    not_tried_since = standing("scrape", mean=0.2, fails=12, last=Seq(30))
    assert plan(not_tried_since, RETRAIN)["scrape"].strategy == "explore"
    assert "since the retrain at event 40" in plan(not_tried_since, RETRAIN)["scrape"].reason
    never_promoted = standing("retrain", count=2, mean=0.1, passes=0, fails=2, last=Seq(40))
    assert plan(low, never_promoted)["scrape"].strategy == "retrain"


@pytest.mark.parametrize("name", ["retrain", "mutation", "engine:train"])
def test_engines_own_work_is_never_retrained(name: str) -> None:
    assert plan(standing(name, mean=0.1, fails=20))[name].strategy == "review"
    assert plan(standing(name, mean=0.9))[name].strategy == "keep"


def test_worse_reward_and_fewer_outcomes_rank_first() -> None:
    steps = plan(standing("good", mean=0.9), standing("bad", mean=0.3), standing("middle", mean=0.6))
    assert list(steps) == ["bad", "middle", "good"]
    assert [step.rank for step in steps.values()] == [1, 2, 3]
    assert list(plan(standing("tried", count=500), standing("new", count=2))) == ["new", "tried"]


def test_equal_need_ranks_by_name() -> None:
    assert list(plan(standing("b"), standing("c"), standing("a"))) == ["a", "b", "c"]


def test_reason_holds_the_numbers() -> None:
    step = plan(standing("scrape", mean=0.2, count=20, fails=11, skips=1, passes=8))["scrape"]
    assert step.reason.startswith("mean reward 0.20 over 20 outcomes")
    assert re.search(r"under 0\.50 with 12 failures and skips", step.reason)


def test_nothing_known_gives_no_plan() -> None:
    assert BuiltinPlanner().plan({}, Policy()) == ()


def test_need_is_the_cited_bound() -> None:
    one = standing("scrape", mean=0.6, count=10)
    assert need(one, 100) == pytest.approx(0.4 + math.sqrt(math.log(100) / 10 * 0.25))


def test_of_thousands_of_task_types_the_plan_holds_the_neediest_and_not_only_what_was_tried_once() -> None:
    """Each cycle records a plan, and each state holds it; a type that was tried once is needier than any that fails."""
    once = [standing(f"ticket-{n}", count=1, mean=1.0, passes=1, fails=0) for n in range(3000)]
    failing = [standing(f"failing-{n:02d}", mean=0.1 + n / 1000, passes=2, fails=18) for n in range(60)]
    steps = list(plan(*once, *failing).values())
    assert len(steps) == STEPS_MAX
    assert [step.rank for step in steps] == list(range(1, STEPS_MAX + 1))
    kept = [step.task_type for step in steps if step.strategy == "retrain"]
    assert kept == [f"failing-{n:02d}" for n in range(50)]
    every = BuiltinPlanner(steps_max=None).plan({one.task_type: one for one in (*once, *failing)}, Policy())
    names = [step.task_type for step in every]
    assert len(names) == 3060
    assert [step.task_type for step in steps] == sorted((step.task_type for step in steps), key=names.index)
    assert set(names[: STEPS_MAX - 50]) <= {step.task_type for step in steps}


standings = st.dictionaries(
    st.sampled_from(["a", "b", "c", "retrain", "mutation", "engine:x"]),
    st.tuples(st.integers(1, 100), st.floats(0, 1), st.integers(0, 50), st.integers(0, 50), st.integers(1, 99)),
    max_size=6,
)


@given(standings, st.randoms())
def test_plan_covers_every_type_once_in_an_order_that_does_not_depend_on_theirs(known: Any, chance: Any) -> None:
    rows = [
        standing(name, count=count, mean=mean, passes=passes, fails=fails, last=Seq(last))
        for name, (count, mean, passes, fails, last) in known.items()
    ]
    steps = list(plan(*rows).values())
    assert sorted(step.task_type for step in steps) == sorted(known)
    assert [step.rank for step in steps] == list(range(1, len(rows) + 1))
    shuffled = list(rows)
    chance.shuffle(shuffled)
    assert list(plan(*shuffled).values()) == steps
