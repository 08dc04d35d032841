"""What is on probation: by what it is watched, when that is decided, and how seldom chance decides it."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from immutables import Map
from msgspec.structs import replace

from instar.fsm import events as e
from instar.fsm.errors import IllegalTransition
from instar.fsm.evolve import evolve
from instar.fsm.policy import GatePolicy, MutationPolicy, RewardPolicy
from instar.fsm.probation import SIDE_BY_SIDE_MAX, applied_on, concluded, fallen, stake_of, subject_of, watched_on
from instar.fsm.react import EffectName, react
from instar.fsm.rewards import Standing, Standings
from instar.fsm.state import AgentState, Probation, Watch, decode_state, encode_state
from instar.fsm.words import Digest, Seq, State, digest_of
from tests.fsm.builders import (
    BASE,
    FEEDBACK,
    NEW,
    TREE,
    D,
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

POLICY = MutationPolicy()


def standing(name: str, mean: float, count: int = 100) -> Standing:
    return Standing(task_type=name, count=count, mean=mean, passes=count, fails=0, skips=0, last=Seq(3))


def standings(*every: Standing) -> Standings:
    return Map({one.task_type: one for one in every})


def watching(*every: Standing, outcomes: int = 64) -> Probation:
    event = e.MutationApplied(task=Seq(8), tree=digest_of(b"t"), probation=outcomes, beside=True)
    (watch,) = applied_on((), event, Seq(10), Seq(9), standings(*every), RewardPolicy())
    return watch


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
    return mutated(replace(fresh(**policy), standings=standings(standing("find", 0.9))), outcomes)


def mutated(state: AgentState, outcomes: int = 64, *, beside: bool = True) -> AgentState:
    """A state in Idle, in which a mutation was just applied, maybe after others."""
    state = fold(settled(state) if state.waiting else state, e.TaskQueued(task="mutate", source="t", patch=D))
    state = fold(state, start(state))
    accepted = e.MutationAccepted(
        task=Seq(2), patch=D, gate=(), log=None, sandbox="s", plan=D, tree_before=TREE, tree_after=NEW
    )
    state = fold(state, accepted, e.MutationApplied(task=Seq(2), tree=NEW, probation=outcomes, beside=beside))
    return settled(fold(state, rewarded("kept", subject="mutation"), e.PlanChosen(steps=(), planner="b")))


def mutation_of(state: AgentState) -> Probation:
    """The only mutation that is watched."""
    (watch,) = state.mutation_probations
    return watch


def one_outcome(state: AgentState, score: float) -> AgentState:
    state = fold(state, FEEDBACK)
    seq = state.head
    state = fold(state, start(state), e.DiffComputed(items=()), embedded(item(seq, outcome="pass")))
    state = fold(state, rewarded(rewards=(e.Reward(seq, "find", score, "pass"),)))
    return fold(state, e.PlanChosen(steps=(), planner="b"))


def ended(state: AgentState, verdict: str = "kept", watch: Watch | None = None) -> e.ProbationEnded:
    watch = watch or state.due or mutation_of(state)
    return e.ProbationEnded(
        applied=watch.applied,
        verdict=verdict,  # type: ignore[arg-type]
        reason="r",
        watched=watch.watched,
        subject=subject_of(watch),
    )


def test_probation_ends_before_anything_else_is_taken_up() -> None:
    state = applied()
    assert mutation_of(state).due is None
    state = fold(one_outcome(state, 1.0), FEEDBACK)
    effect = react(state)
    assert effect is not None
    assert effect.name is EffectName.END_PROBATION
    state = fold(state, ended(state))
    assert not state.mutation_probations
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
    assert not applied(0).mutation_probations
    assert not to_code(applied(5), Seq(1)).mutation_probations


def test_mutations_that_follow_each_other_are_watched_side_by_side() -> None:
    state = one_outcome(one_outcome(applied(64), 0.0), 0.0)
    state = mutated(state)
    first, second = state.mutation_probations
    assert (first.watched[0].before, first.watched[0].count) == (0.9, 2)
    assert second.watched[0].before < 0.9
    assert second.watched[0].count == 0
    while state.due is None:
        state = one_outcome(state, 0.0)
    assert state.due.applied == first.applied  # a little less after each mutation is a lot less than at first
    assert len(mutated(state, 0).mutation_probations) == 2  # one that is not watched ends no watch
    for _ in range(10):
        state = mutated(state, 1000)
    assert len(state.mutation_probations) == SIDE_BY_SIDE_MAX


def test_mutation_of_an_older_version_is_watched_alone() -> None:
    state = mutated(applied(64), beside=False)
    assert mutation_of(state).watched[0].count == 0
    assert not mutated(state, 0, beside=False).mutation_probations
    both = mutated(state)
    assert [watch.beside for watch in both.mutation_probations] == [False, True]
    second = both.mutation_probations[1]
    back = to_code(both, second.applied)
    assert back.mutation_probations == (replace(second, anew=back.head),)


def test_rollback_of_code_watches_anew_what_stands_in_what_it_leads_to() -> None:
    state = applied(64)
    for _ in range(3):
        state = one_outcome(state, 0.0)
    state = one_outcome(mutated(state), 1.0)
    first, second = state.mutation_probations
    assert len(to_code(state, second.accepted).mutation_probations) == 2
    after_it = to_code(state, Seq(second.accepted - 1))
    anew = mutation_of(after_it)
    assert (anew.applied, anew.anew, anew.left) == (first.applied, after_it.head, POLICY.probation)
    assert (anew.watched[0].before, anew.watched[0].count, stake_of(anew.watched[0])) == (0.9, 0, 1.0)
    assert not to_code(state, Seq(first.accepted - 1)).mutation_probations


def test_one_of_several_ends_alone() -> None:
    state = mutated(applied(2))
    second = state.mutation_probations[1]
    state = one_outcome(one_outcome(state, 1.0), 1.0)
    state = fold(state, ended(state))
    assert [watch.applied for watch in state.mutation_probations] == [second.applied]
    assert mutation_of(state).watched[0].count == 2


def to_code(state: AgentState, target: Seq) -> AgentState:
    assert state.tree is not None
    back = e.RollbackStarted(
        target=target,
        plan=D,
        tree=TREE,
        checkpoint=state.checkpoint,
        memory=state.memory,
        reason="r",
        parts=("code",),
        trained=state.trained,
        trained_rows=state.trained_rows,
    )
    return fold(state, back)


# ---- a checkpoint --------------------------------------------------------------------------------------------------


def promoted(state: AgentState, outcomes: int | None = 64) -> AgentState:
    """A state in Idle, in which a checkpoint was just promoted."""
    state = fold(settled(state) if state.waiting else state, e.TaskQueued(task="self_train", source="t"))
    state = fold(state, start(state))
    assert state.cycle is not None
    flag = e.RetrainFlagged(triggers=state.cycle.triggers, path="p", content=D)
    state = fold(state, flag, replace(dataset(), dataset=digest_of(str(state.head).encode())), trained())
    again = e.MemoryReembedded(space=NEW, rows=(), vectors=D, dim=8)
    verdict = rewarded("promoted", subject="checkpoint", checkpoint=NEW, probation=outcomes)
    return settled(fold(state, again, verdict, e.PlanChosen(steps=(), planner="b")))


def known() -> AgentState:
    return replace(fresh(), standings=standings(standing("find", 0.9)))


def both() -> AgentState:
    """A mutation and, after it, a checkpoint are watched; three outcomes were failures."""
    state = promoted(applied(64))
    for _ in range(3):
        state = one_outcome(state, 0.0)
    return state


def rolled_back(state: AgentState, *parts: e.Part, checkpoint: Digest | None) -> AgentState:
    assert state.tree is not None
    tree = TREE if "code" in parts else state.tree
    back = e.RollbackStarted(
        target=Seq(1), plan=D, tree=tree, checkpoint=checkpoint, memory=state.memory, reason="r", parts=parts
    )
    if "checkpoint" not in parts:
        back = replace(back, trained=state.trained, trained_rows=state.trained_rows)
    return fold(state, back)


def test_promoted_checkpoint_is_watched_if_its_event_says_so() -> None:
    assert promoted(known(), None).checkpoint_probations == ()
    assert promoted(known(), 0).checkpoint_probations == ()
    (watch,) = promoted(known()).checkpoint_probations
    assert (watch.checkpoint, watch.left, [one.task_type for one in watch.watched]) == (NEW, 64, ["find"])
    assert promoted(promoted(known()), None).checkpoint_probations == (watch,)


def test_checkpoints_that_follow_each_other_are_watched_side_by_side() -> None:
    state = promoted(known())
    state = one_outcome(one_outcome(state, 0.0), 0.0)
    state = promoted(state)
    first, second = state.checkpoint_probations
    assert (first.watched[0].before, first.watched[0].count) == (0.9, 2)
    assert (second.watched[0].before, second.watched[0].count) == (state.standings["find"].mean, 0)
    assert second.watched[0].before < first.watched[0].before
    while state.due is None:
        state = one_outcome(state, 0.0)
    assert state.due.applied == first.applied  # a little less after each promotion is a lot less than at first
    for _ in range(10):
        state = promoted(state, 1000)
    assert len(state.checkpoint_probations) == SIDE_BY_SIDE_MAX
    applied = [watch.applied for watch in state.checkpoint_probations]
    assert applied == sorted(applied)


def test_its_end_is_judged_by_the_limits_of_the_gate() -> None:
    state = promoted(known())
    for _ in range(5):
        state = one_outcome(state, 0.0)
    assert (state.due,) == state.checkpoint_probations
    with pytest.raises(IllegalTransition, match="is not kept"):
        fold(state, ended(state))
    with pytest.raises(IllegalTransition, match="is no mutation"):
        fold(state, replace(ended(state, "undone"), subject="mutation"))
    strict = replace(state.policy, mutation=MutationPolicy(p_max=1e-9))
    with pytest.raises(IllegalTransition, match="is not kept"):
        fold(fold(state, e.PolicyChanged(policy=strict)), ended(state))
    strict = replace(state.policy, gate=GatePolicy(p_max=1e-9))
    assert fold(fold(state, e.PolicyChanged(policy=strict)), ended(state)).checkpoint_probations == ()
    effect = react(state)
    assert effect is not None
    assert effect == (EffectName.END_PROBATION, state.due.due if state.due else None)


def test_of_two_that_are_due_the_later_goes_first_and_its_undo_begins_the_other_anew() -> None:
    state = both()
    while state.due is None or mutation_of(state).due is None:
        state = one_outcome(state, 0.0)
    assert (state.due,) == state.checkpoint_probations
    with pytest.raises(IllegalTransition, match="no probation"):
        fold(state, ended(state, "undone", mutation_of(state)))
    after_it = fold(state, ended(state, "undone"))
    anew = mutation_of(after_it)
    assert (anew.due, anew.left) == (None, state.policy.mutation.probation)
    assert [(one.count, stake_of(one)) for one in anew.watched] == [(0, 1.0)]
    assert anew.watched[0].before == mutation_of(state).watched[0].before
    left = fold(state, ended(state, "left"))  # what stays may go on to be the cause
    assert left.due == mutation_of(left) == mutation_of(state)


def test_rollback_leaves_watched_what_stays_and_anew_what_stays_beside_what_goes() -> None:
    state = promoted(both())
    other = digest_of(b"other")
    first, second = state.checkpoint_probations
    state = replace(state, checkpoint=other, checkpoint_probations=(first, replace(second, checkpoint=other)))
    assert first.watched[0].count == 3
    memory = rolled_back(state, "memory", checkpoint=other)
    assert memory.checkpoint_probations == state.checkpoint_probations
    assert memory.mutation_probations == state.mutation_probations
    (anew,) = rolled_back(state, "checkpoint", checkpoint=NEW).checkpoint_probations
    assert (anew.applied, anew.watched[0].before, anew.watched[0].count) == (first.applied, 0.9, 0)
    gone = rolled_back(state, "checkpoint", checkpoint=BASE)
    assert gone.checkpoint_probations == ()
    watch = mutation_of(gone)
    assert (watch.applied, watch.anew, watch.watched[0].count) == (mutation_of(state).applied, gone.head, 0)
    alone = replace(mutation_of(state), beside=False)  # an older version went on
    older = rolled_back(replace(state, mutation_probations=(alone,)), "checkpoint", checkpoint=BASE)
    assert older.mutation_probations == (alone,)
    code = rolled_back(state, "code", checkpoint=other)
    assert not code.mutation_probations
    assert [one.watched[0].count for one in code.checkpoint_probations] == [0, 0]


def test_outcomes_told_before_it_began_anew_do_not_count_even_if_they_are_rewarded_later() -> None:
    """A worker that was behind: what was earned under the checkpoint that went must not undo those before it."""
    state = promoted(both())
    other = digest_of(b"other")
    first, second = state.checkpoint_probations
    state = replace(state, checkpoint=other, checkpoint_probations=(first, replace(second, checkpoint=other)))
    seqs = []
    for _ in range(20):
        state = fold(state, FEEDBACK)
        seqs.append(state.head)
    state = rolled_back(state, "checkpoint", checkpoint=NEW)
    state = fold(state, e.RollbackFinished(started=state.head, tree=TREE, checkpoint=NEW))
    (anew,) = state.checkpoint_probations
    late = [e.Reward(seq, "find", 0.0, "fail") for seq in seqs]
    assert watched_on(anew, late, state.policy.gate, state.head) == anew
    fresh = [e.Reward(Seq(state.head + 1), "find", 0.0, "fail")]
    assert watched_on(anew, fresh, state.policy.gate, state.head).watched[0].count == 1
    behind = one_outcome(state, 0.0)
    assert behind.checkpoint_probations[0].watched[0].count == 1


def test_stakes_of_any_number_of_failures_at_once_can_be_recorded() -> None:
    policy = replace(POLICY, fall_max=0.0)
    rewards = [e.Reward(Seq(11 + n), "find", 0.0, "fail") for n in range(4096)]
    probation = watched_on(watching(standing("find", 1.0)), rewards, policy, Seq(9000))
    assert math.isfinite(stake_of(probation.watched[0]))
    assert concluded(probation, policy)[0] == "fallen"
    state = replace(AgentState(), mutation_probations=(probation,))
    assert decode_state(encode_state(state)) == state
