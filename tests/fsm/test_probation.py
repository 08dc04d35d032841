"""A mutation on probation: what it is watched by, when that is decided, and how seldom chance decides it."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from immutables import Map
from msgspec.structs import replace

from instar.fsm import events as e
from instar.fsm.errors import IllegalTransition
from instar.fsm.evolve import evolve
from instar.fsm.policy import MutationPolicy, RewardPolicy
from instar.fsm.probation import begun, concluded, fallen, stake_of, watched_on
from instar.fsm.react import EffectName, react
from instar.fsm.rewards import Standing, Standings
from instar.fsm.state import AgentState, Probation
from instar.fsm.words import Seq, State, digest_of
from tests.fsm.builders import FEEDBACK, NEW, TREE, D, embedded, fold, fresh, item, rewarded, start

POLICY = MutationPolicy()


def standing(name: str, mean: float, count: int = 100) -> Standing:
    return Standing(task_type=name, count=count, mean=mean, passes=count, fails=0, skips=0, last=Seq(3))


def standings(*every: Standing) -> Standings:
    return Map({one.task_type: one for one in every})


def watching(*every: Standing, outcomes: int = 64) -> Probation:
    return begun(Seq(10), Seq(9), digest_of(b"t"), outcomes, standings(*every), RewardPolicy())


def after(probation: Probation, *scores: float, name: str = "find", policy: MutationPolicy = POLICY) -> Probation:
    for seq, score in enumerate(scores, 11):
        reward = e.Reward(Seq(seq), name, score, "pass" if score else "fail")
        probation = watched_on(probation, [reward], policy, Seq(seq + 1))
    return probation


def test_what_the_engine_does_itself_and_what_is_hardly_known_is_not_watched() -> None:
    probation = watching(
        standing("find", 0.9), standing("new", 0.9, 4), standing("mutation", 0.9), standing("engine:diff", 0.9)
    )
    assert [one.task_type for one in probation.watched] == ["find"]


def test_reward_that_is_lost_is_seen_after_a_few_outcomes_and_one_that_holds_is_not() -> None:
    lost = after(watching(standing("find", 0.9)), *[0.0] * 6)
    assert lost.due is not None
    assert concluded(lost, POLICY) == ("fallen", "reward fell by more than 0.1: find 0.90 → 0.00 over 4 outcomes")
    held = after(watching(standing("find", 0.9)), *[1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0] * 8)
    assert (held.left, concluded(held, POLICY)[0]) == (0, "kept")
    assert held.due == Seq(75)


def test_outcomes_from_before_the_mutation_and_of_the_engine_itself_do_not_count() -> None:
    probation = watching(standing("find", 0.9))
    earlier = [e.Reward(Seq(8), "find", 0.0, "fail")] * 20
    own = [e.Reward(Seq(12), "retrain", 0.0, "fail"), e.Reward(Seq(12), "engine:diff", 0.0, "fail")]
    assert watched_on(probation, [*earlier, *own], POLICY, Seq(13)) == probation


def test_few_passes_before_say_less_than_many() -> None:
    few, many = watching(standing("find", 1.0, 5)), watching(standing("find", 1.0, 100))
    assert few.watched[0].expected < many.watched[0].expected < 1.0
    assert after(few, 0.0, 0.0).due is None
    assert after(many, 0.0, 0.0, 0.0).due is not None


def test_types_share_the_chance_of_a_false_alarm() -> None:
    alone, among = watching(standing("find", 0.9)), watching(*(standing(name, 0.9) for name in ("find", *"abcdefgh")))
    assert after(alone, *[0.0] * 4).due is not None
    assert after(among, *[0.0] * 4).due is None
    assert after(among, *[0.0] * 6).due is not None


@pytest.mark.parametrize("share", [0.6, 0.8, 0.95])
def test_chance_undoes_fewer_than_it_may(share: float) -> None:
    """1,000 mutations that change nothing, over 64 outcomes each; what was earned before is drawn as well."""
    draws = random.Random(7)
    alarms = 0
    for _ in range(1000):
        mean = 1.0
        for _ in range(100):
            mean += 0.1 * ((draws.random() < share) - mean)
        probation = after(watching(standing("find", mean)), *(float(draws.random() < share) for _ in range(64)))
        alarms += bool(fallen(probation, POLICY))
    assert alarms <= 50


@given(
    before=st.floats(0, 1),
    scores=st.lists(st.floats(0, 1), max_size=80),
    fall=st.floats(0, 1),
    p=st.floats(1e-9, 1),
)
def test_stakes_are_never_negative_and_a_decided_probation_stays(
    before: float, scores: list[float], fall: float, p: float
) -> None:
    policy = replace(POLICY, fall_max=fall, p_max=p)
    probation = after(watching(standing("find", before)), *scores, policy=policy)
    assert all(stake >= 0 for one in probation.watched for stake in one.stakes)
    assert stake_of(probation.watched[0]) >= 0
    if probation.due is not None:
        assert after(probation, 0.0, 1.0, policy=policy) == probation
        assert concluded(probation, policy)[1]


# ---- in the fold ---------------------------------------------------------------------------------------------------


def applied(outcomes: int = 1, **policy: object) -> AgentState:
    """A state in Idle, in which a mutation was just applied."""
    state = fresh(**policy)
    state = replace(state, standings=standings(standing("find", 0.9)))
    state = fold(state, e.TaskQueued(task="mutate", source="t", patch=D))
    state = fold(state, start(state))
    accepted = e.MutationAccepted(
        task=Seq(2), patch=D, gate=(), log=None, sandbox="s", plan=D, tree_before=TREE, tree_after=NEW
    )
    state = fold(state, accepted, e.MutationApplied(task=Seq(2), tree=NEW, probation=outcomes))
    return fold(state, rewarded("kept", subject="mutation"), e.PlanChosen(steps=(), planner="b"))


def one_outcome(state: AgentState, score: float) -> AgentState:
    state = fold(state, FEEDBACK)
    seq = state.head
    state = fold(state, start(state), e.DiffComputed(items=()), embedded(item(seq, outcome="pass")))
    state = fold(state, rewarded(rewards=(e.Reward(seq, "find", score, "pass"),)))
    return fold(state, e.PlanChosen(steps=(), planner="b"))


def ended(state: AgentState, verdict: str = "kept") -> e.ProbationEnded:
    assert state.probation is not None
    return e.ProbationEnded(
        applied=state.probation.applied,
        verdict=verdict,  # type: ignore[arg-type]
        reason="r",
        watched=state.probation.watched,
    )


def test_probation_ends_before_anything_else_is_taken_up() -> None:
    state = applied()
    assert state.probation is not None
    assert react(state) is not None
    state = fold(one_outcome(state, 1.0), FEEDBACK)
    effect = react(state)
    assert effect is not None
    assert effect.name is EffectName.END_PROBATION
    state = fold(state, ended(state))
    assert state.probation is None
    assert state.machine is State.IDLE
    effect = react(state)
    assert effect is not None
    assert effect.name is EffectName.START_CYCLE
    assert state.waiting[-1].last == state.head


def test_end_that_is_not_due_or_not_what_the_rewards_say_is_refused() -> None:
    state = applied()
    with pytest.raises(IllegalTransition, match="no probation"):
        fold(state, ended(state))
    state = one_outcome(state, 1.0)
    with pytest.raises(IllegalTransition, match="is not undone"):
        fold(state, ended(state, "undone"))
    with pytest.raises(IllegalTransition, match="no probation"):
        evolve(state, ended(state), seq=Seq(state.head + 1), cause=state.head, at_us=1)


def test_nothing_is_watched_where_the_event_says_so_and_a_rollback_of_code_ends_it() -> None:
    assert applied(0).probation is None
    state = applied(5)
    assert state.tree is not None
    back = e.RollbackStarted(
        target=Seq(1), plan=D, tree=TREE, checkpoint=state.checkpoint, memory=(), reason="r", parts=("code",)
    )
    assert fold(state, back).probation is None
