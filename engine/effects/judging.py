"""Rewarding → Planning → Idle: scores what the cycle brought, promotes or rejects, and plans what comes next."""

from __future__ import annotations

from instar.engine.runtime import Runtime
from instar.engine.verdicts import outcome_rewards, plan_steps, verdict
from instar.fsm.events import PlanChosen, Reward, SignalEmbedded
from instar.fsm.react import Effect
from instar.fsm.rewards import earns
from instar.fsm.state import AgentState, Cycle
from instar.store.log import Pending

from .embedding import reembedded
from .learning import forget_trainings
from .signals import current, signals_of


def reward(runtime: Runtime, state: AgentState, effect: Effect) -> list[Pending]:
    """Scores the cycle's outcomes; promotes a candidate that the gate admits, with its memory, or rejects it."""
    forget_trainings(runtime)
    cycle = current(state)
    judged = cycle.candidate.seq if cycle.candidate else cycle.mutation
    event = verdict(
        state,
        _outcome_rewards(runtime, cycle),
        runtime.reward_model.name,
        runtime.reader.get(judged).event if judged else None,
    )
    again = reembedded(runtime, state, event.checkpoint) if event.checkpoint else None
    return [Pending(one, cause=effect.answers) for one in (again, event) if one]


def _outcome_rewards(runtime: Runtime, cycle: Cycle) -> tuple[Reward, ...]:
    if cycle.embedded is None:
        return ()
    embedded = runtime.reader.get(cycle.embedded).event
    assert isinstance(embedded, SignalEmbedded)
    signals = [(record.seq, record.event) for record in signals_of(runtime.reader, cycle) if earns(record.event)]
    return outcome_rewards(runtime.reward_model, signals, embedded.items)


def plan(runtime: Runtime, state: AgentState, effect: Effect) -> list[Pending]:
    """Chooses what the agent should work on next."""
    steps = plan_steps(runtime.planner, state.standings, state.policy)
    return [Pending(PlanChosen(steps=steps, planner=runtime.planner.name), cause=effect.answers)]
