"""The rewards of each task type over time."""

from __future__ import annotations

import threading
from collections import deque
from typing import ClassVar

from msgspec import Struct

from instar.fsm.events import OutcomeRewarded
from instar.fsm.record import Recorded
from instar.fsm.rewards import Standing, is_low, ranking
from instar.fsm.state import AgentState

_KEPT = 200


class Scored(Struct, frozen=True):
    """One reward: the OutcomeRewarded that holds it, when it was recorded, the score in 0..1."""

    seq: int
    at_us: int
    score: float


class TaskRewards(Struct, frozen=True, kw_only=True):
    """Where one task type stands, and its last rewards, oldest first."""

    standing: Standing
    low: bool
    """Under the policy's threshold for long enough to count."""
    scores: tuple[Scored, ...]


class RewardsBoard:
    """A projection of the log; keeps the last 200 rewards of each task type."""

    TYPES: ClassVar[tuple[str, ...]] = (OutcomeRewarded.__name__,)

    def __init__(self) -> None:
        self._scores: dict[str, deque[Scored]] = {}
        self._lock = threading.Lock()

    def add(self, record: Recorded) -> None:
        """Counts one event in; other types do nothing."""
        if not isinstance(record.event, OutcomeRewarded):
            return
        with self._lock:
            for reward in record.event.rewards:
                scores = self._scores.setdefault(reward.task_type, deque(maxlen=_KEPT))
                scores.append(Scored(record.seq, record.recorded_at_us, reward.score))

    def by_task_type(self, state: AgentState, count_max: int | None = None) -> list[TaskRewards]:
        """Ranks the task types as the engine does, best mean first.

        Args:
            state: where they stand.
            count_max: give so many alone: those that are low, and of the others those with the most outcomes.
        """
        ranked, policy = ranking(state.standings), state.policy.reward
        if count_max is not None and len(ranked) > count_max:
            first = sorted(ranked, key=lambda one: (not is_low(one, policy), -one.count))
            shown = {one.task_type for one in first[:count_max]}
            ranked = [one for one in ranked if one.task_type in shown]
        with self._lock:
            scores = {one.task_type: tuple(self._scores.get(one.task_type, ())) for one in ranked}
        return [TaskRewards(standing=one, low=is_low(one, policy), scores=scores[one.task_type]) for one in ranked]
