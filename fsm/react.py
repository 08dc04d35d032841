"""What a state owes: the one effect that the shell must run next, keyed by the event that it answers."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple, assert_never

from .state import AgentState
from .words import Seq, State


class EffectName(StrEnum):
    """The work that the shell does; each name is recorded with its failures."""

    ROLL_FORWARD = "roll_forward"
    START_CYCLE = "start_cycle"
    DIFF = "diff"
    EMBED = "embed"
    FLAG = "flag"
    GENERATE = "generate"
    TRAIN = "train"
    REWARD = "reward"
    MUTATE = "mutate"
    PLAN = "plan"
    END_PROBATION = "end_probation"


class Effect(NamedTuple):
    """An effect and the event that it answers."""

    name: EffectName
    answers: Seq


def react(state: AgentState) -> Effect | None:
    """Names the one effect that a state owes; None when there is nothing to do."""
    if state.restoring:
        return Effect(EffectName.ROLL_FORWARD, state.restoring.seq)
    watch = state.due if state.machine is State.IDLE else None
    if watch is not None and watch.due is not None:
        return Effect(EffectName.END_PROBATION, watch.due)
    name = _owed(state)
    return Effect(name, state.since) if name else None


def _owed(state: AgentState) -> EffectName | None:
    match state.machine:
        case State.IDLE:
            return EffectName.START_CYCLE if state.waiting else None
        case State.DIFFING:
            return EffectName.DIFF
        case State.EMBEDDING:
            return EffectName.EMBED
        case State.FLAGGED:
            return EffectName.FLAG
        case State.GENERATING:
            return EffectName.GENERATE
        case State.TRAINING:
            return EffectName.TRAIN
        case State.REWARDING:
            return EffectName.REWARD
        case State.PLANNING:
            cycle = state.cycle
            mutates = cycle is not None and cycle.entry == "mutate" and cycle.mutation is None
            return EffectName.MUTATE if mutates else EffectName.PLAN
        case _:
            assert_never(state.machine)
