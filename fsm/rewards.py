"""The reward ranking, as a fold over recorded scores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from immutables import Map
from msgspec import Struct

from .events import AnyEvent, FeedbackReceived, Reward
from .policy import RewardPolicy
from .words import Seq

TAUGHT: Final = "taught:"
"""How the source of a feedback begins that is a lesson for the agent, and no outcome of its work."""


class Standing(Struct, frozen=True, gc=False, kw_only=True):
    """Where one task type stands: ``mean`` is the exponential mean of its rewards, in 0..1."""

    task_type: str
    count: int
    mean: float
    passes: int
    fails: int
    skips: int
    last: Seq


Standings = Map[str, Standing]
"""The standing of each task type: a persistent map, so that the states of many positions share what they have alike."""


def earns(event: AnyEvent) -> bool:
    """Says whether a signal is an outcome of the agent's work; of what it was merely taught it earned nothing."""
    return isinstance(event, FeedbackReceived) and not is_lesson(event)


def is_lesson(event: AnyEvent) -> bool:
    """Says whether a signal is something that the agent was taught, and was not asked."""
    return isinstance(event, FeedbackReceived) and event.source.startswith(TAUGHT)


def credit(standings: Standings, rewards: Iterable[Reward], policy: RewardPolicy) -> Standings:
    """Counts rewards in; the first reward of a task type is its mean, each later one moves it by ``smoothing``."""
    after = standings.mutate()
    for reward in rewards:
        old = after.get(reward.task_type)
        passes, fails, skips = (old.passes, old.fails, old.skips) if old else (0, 0, 0)
        after[reward.task_type] = Standing(
            task_type=reward.task_type,
            count=old.count + 1 if old else 1,
            mean=old.mean + policy.smoothing * (reward.score - old.mean) if old else reward.score,
            passes=passes + (reward.outcome == "pass"),
            fails=fails + (reward.outcome == "fail"),
            skips=skips + (reward.outcome == "skip"),
            last=reward.seq,
        )
    return after.finish()


def ranking(standings: Mapping[str, Standing]) -> list[Standing]:
    """Task types from the best mean reward to the worst; equal means by name."""
    return sorted(standings.values(), key=lambda standing: (-standing.mean, standing.task_type))


def is_low(standing: Standing, policy: RewardPolicy) -> bool:
    """Says whether a task type has earned too little for long enough to count."""
    return standing.count >= policy.count_min and standing.mean < policy.threshold
