"""Decisions on learning under another policy: whether to train, what to promote, what to work on next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from instar.engine.replay.judges import PLANNERS
from instar.engine.verdicts import OUTCOMES, plan_steps
from instar.fsm import events as e
from instar.fsm.errors import EffectFailedError
from instar.fsm.machine import next_state
from instar.fsm.policies import Promotion, may_retrain, promotion, recent, worth_training
from instar.fsm.rewards import credit
from instar.fsm.state import AgentState
from instar.fsm.values import PlanStep, Reward
from instar.fsm.words import State

from .of_probation import count_in, watch_after, watch_promoted

if TYPE_CHECKING:
    from instar.engine.replay.facts import Fact

    from .deciding import Deciding, Handler

_SHOWN_MAX = 4
_REEMBED = "memory would have to be embedded again in the space of another checkpoint"


def _generated(deciding: Deciding, before: AgentState, fact: Fact, event: e.DatasetGenerated) -> None:
    """A data set is trained on if it holds enough that is new, and the hourly budget leaves a retrain."""
    if deciding.is_void(fact):
        return
    shadow, state = deciding.shadow, deciding.other.state(before, deciding.shadow)
    deciding.decisions["retrain"] += 1
    if _shares(state) != _shares(before):
        deciding.to_run["a data set would have to be split again"] += 1
    trains = next_state(before, event, fact.at_us) is State.TRAINING
    would = next_state(state, event, fact.at_us) is State.TRAINING
    told = _why(state, event, fact.at_us)
    if would:
        shadow.retrains_at_us = (*recent(shadow.retrains_at_us, fact.at_us), fact.at_us)
    if trains and not would:
        found = deciding.differs(
            fact, "retrain", "trained", f"not trained: {told}", _rows(state, event), facts_at=(fact.seq,)
        )
        deciding.voids(found, everything=False)
    elif would and not trains:
        was = f"not trained: {_why(before, event, fact.at_us)}"
        to_run = "a training would have to be run"
        deciding.differs(fact, "retrain", was, "trained", _rows(state, event), facts_at=(fact.seq,), to_run=to_run)
        shadow.trained, shadow.trained_rows = event.dataset, event.train


def _shares(state: AgentState) -> tuple[float, float]:
    return state.policy.retrain.heldout_share, state.policy.retrain.validation_share


def _why(state: AgentState, event: e.DatasetGenerated, at_us: int) -> str:
    policy = state.policy.retrain
    if not worth_training(state, event):
        return f"fewer than {policy.rows_min} rows that are new, or nothing to train"
    if not may_retrain(state, at_us):
        return f"the budget of {policy.per_hour_max} retrains an hour is used up"
    return "worth it"


def _rows(state: AgentState, event: e.DatasetGenerated) -> str:
    return f"{event.train} rows to learn, the last training had {state.trained_rows}"


def _trained(deciding: Deciding, before: AgentState, fact: Fact, event: e.CheckpointTrained) -> None:
    if not deciding.is_void(fact) and before.cycle is not None and event.brought is None:
        deciding.shadow.trained, deciding.shadow.trained_rows = event.dataset, before.cycle.rows


def _rewarded(deciding: Deciding, before: AgentState, fact: Fact, event: e.OutcomeRewarded) -> None:
    """A candidate is promoted if the gate admits it; rewards move the standings by the other policy's smoothing."""
    shadow = deciding.shadow
    if shadow.void == "all":
        return
    rewards = list(event.rewards)
    candidate = before.cycle.candidate if before.cycle else None
    found: Promotion | None = None
    if candidate is not None and shadow.void:
        rewards = [reward for reward in rewards if reward.seq != candidate.seq]
    elif candidate is not None:
        found = _promoted(deciding, before, fact, event)
        rewards = [_outcome(reward, found) if reward.seq == candidate.seq else reward for reward in rewards]
    if shadow.refused:
        rewards = [_refused(reward) if reward.task_type == "mutation" else reward for reward in rewards]
    count_in(deciding, before, fact, rewards)
    shadow.standings = credit(shadow.standings, rewards, deciding.other.policy(before.policy).reward)
    if event.verdict == "promoted":
        watch_promoted(deciding, before, fact, event, would=found == "promoted")


def _promoted(deciding: Deciding, before: AgentState, fact: Fact, event: e.OutcomeRewarded) -> Promotion:
    cycle = before.cycle
    assert cycle is not None
    assert cycle.candidate is not None
    deciding.decisions["promotion"] += 1
    would, why = promotion(deciding.other.policy(before.policy).gate, cycle.candidate)
    if would != event.verdict:
        measured, _, reason = why.partition(": ")
        deciding.differs(
            fact,
            "promotion",
            f"{event.verdict}: {event.reason.partition(': ')[2]}",
            f"{would}: {reason}",
            measured,
            facts_at=(cycle.candidate.seq,),
            undone=(fact.seq,),
            to_run=_REEMBED if would == "promoted" else "",
        )
    return would


def _outcome(reward: Reward, found: Promotion) -> Reward:
    return Reward(reward.seq, reward.task_type, reward.score, OUTCOMES[found])


def _refused(reward: Reward) -> Reward:
    return Reward(reward.seq, reward.task_type, 0.0, "fail")


def _planned(deciding: Deciding, before: AgentState, fact: Fact, event: e.PlanChosen) -> None:
    """The plan ranks task types by their standings; it is compared by what it says to do, in which order."""
    shadow = deciding.shadow
    if shadow.void == "all":
        return
    shadow.failures = 0
    planner = deciding.judges.planner(event.planner, len(event.steps))
    if planner is None:
        why = deciding.judges.reason(PLANNERS, event.planner)
        deciding.to_run[f"the planner would have to be asked: {why}"] += 1
        return
    state = deciding.other.state(before, shadow)
    try:
        would = plan_steps(planner, state.standings, state.policy)
    except EffectFailedError as error:
        why = deciding.judges.failed(PLANNERS, event.planner, error)
        deciding.to_run[f"the planner would have to be asked: {why}"] += 1
        return
    deciding.decisions["plan"] += 1
    if _order(would) != _order(event.steps):
        recorded = set(_order(event.steps))
        moved = [step for step in would if recorded.isdisjoint(_order([step]))] or list(would)
        facts = "; ".join(f"{step.task_type}: {step.reason}" for step in moved[:_SHOWN_MAX])
        deciding.differs(
            fact, "plan", _told(event.steps), _told(would), facts, facts_at=(before.since,), undone=(fact.seq,)
        )


def _order(steps: tuple[PlanStep, ...] | list[PlanStep]) -> list[tuple[str, str]]:
    return [(step.task_type, step.strategy) for step in steps]


def _told(steps: tuple[PlanStep, ...]) -> str:
    shown = ", ".join(f"{step.task_type} {step.strategy}" for step in steps[:_SHOWN_MAX])
    return (f"{shown}, …" if len(steps) > _SHOWN_MAX else shown) or "nothing"


def _rolling(deciding: Deciding, before: AgentState, fact: Fact, event: e.RollbackStarted) -> None:
    deciding.shadow.trained, deciding.shadow.trained_rows = event.trained, event.trained_rows
    watch_after(deciding, before, fact, event)


HANDLERS: dict[type, Handler] = {
    e.DatasetGenerated: _generated,
    e.CheckpointTrained: _trained,
    e.OutcomeRewarded: _rewarded,
    e.PlanChosen: _planned,
    e.RollbackStarted: _rolling,
}
