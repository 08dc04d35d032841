"""The built-in planner: which task type needs work most, and what kind of work.

Task types are ranked by need, 1 − mean reward, plus a bonus for few outcomes: what was seldom tried may be worse than
it looks. The bonus is that of UCB1-tuned (Auer, Cesa-Bianchi & Fischer 2002, section 4) with its bound of 1/4 for the
variance of a reward in 0..1: sqrt(ln N / n / 4) for n of N outcomes.

A plan is recorded by every cycle, and is part of every state: of an agent that had thousands of task types, many of
them once, it holds the neediest alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final, Literal

from instar.fsm.events import PlanStep
from instar.fsm.policy import Policy
from instar.fsm.probation import is_own
from instar.fsm.rewards import Standing

Strategy = Literal["retrain", "explore", "keep", "review"]

RETRAIN_TYPE: Final = "retrain"
"""The task type under which the engine's own checkpoints are rewarded; its last outcome is the last retrain."""
_VARIANCE_MAX: Final = 0.25
STEPS_MAX: Final = 100
"""So many task types a plan holds; an earlier version held them all …"""
_KNOWN_MIN: Final = 50
"""… of them at least so many of which enough outcomes are known, since what was tried once always seems needier."""


class BuiltinPlanner:
    """Ranks by need and says why, in numbers.

    Args:
        steps_max: how many task types a plan holds; None for all of them, as an earlier version did.
    """

    name = "builtin"

    def __init__(self, steps_max: int | None = STEPS_MAX) -> None:
        self._steps_max = steps_max

    def plan(self, standings: Mapping[str, Standing], policy: Policy) -> tuple[PlanStep, ...]:
        """Returns one step for each of the neediest task types, the neediest first; equal needs by name."""
        total = sum(standing.count for standing in standings.values())
        ranked = sorted(standings.values(), key=lambda standing: (-need(standing, total), standing.task_type))
        if self._steps_max is not None and len(ranked) > self._steps_max:
            ranked = _neediest(ranked, self._steps_max, policy.reward.count_min)
        retrain = standings.get(RETRAIN_TYPE)
        steps = []
        for rank, standing in enumerate(ranked, 1):
            strategy, reason = _strategy(standing, policy, retrain)
            facts = f"mean reward {standing.mean:.2f} over {standing.count} outcomes, need {need(standing, total):.2f}"
            steps.append(
                PlanStep(rank=rank, task_type=standing.task_type, strategy=strategy, reason=f"{facts}: {reason}")
            )
        return tuple(steps)


def _neediest(ranked: Sequence[Standing], count: int, enough: int) -> list[Standing]:
    """Chooses of the ranked standings, in their order, those that a plan holds."""
    known = [place for place, standing in enumerate(ranked) if standing.count >= enough][:_KNOWN_MIN]
    chosen = set(known)
    for place in range(len(ranked)):
        if len(chosen) == count:
            break
        chosen.add(place)
    return [ranked[place] for place in sorted(chosen)]


def need(standing: Standing, total: int) -> float:
    """Says how much a task type needs work: what its reward lacks, and how little is known of it."""
    count = max(1, standing.count)
    return 1.0 - standing.mean + math.sqrt(math.log(max(total, 1)) / count * _VARIANCE_MAX)


def _strategy(standing: Standing, policy: Policy, retrain: Standing | None) -> tuple[Strategy, str]:
    """Chooses what to do about a task type, and says why in words that hold the numbers."""
    enough, threshold = policy.reward.count_min, policy.reward.threshold
    low = standing.mean < threshold
    if is_own(standing.task_type):
        if low:
            return "review", f"under {threshold:.2f}, and retraining does not mend the engine's own work"
        return "keep", f"not under {threshold:.2f}"
    if standing.count < enough:
        return "explore", f"fewer than {enough} outcomes tell too little"
    if not low:
        return "keep", f"not under {threshold:.2f}"
    lost = standing.fails + standing.skips
    if lost < enough:
        return (
            "explore",
            f"under {threshold:.2f}, but {lost} failures and skips are fewer than the {enough} to learn from",
        )
    if retrain is not None and standing.last < retrain.last:
        # The same failures teach nothing twice: what the retrain brought is not known before the next outcome.
        return "explore", f"under {threshold:.2f}, but no outcome yet since the retrain at event {retrain.last}"
    if retrain is not None and retrain.passes:  # A promoted checkpoint counts as a pass, a rejected one as a failure.
        return "review", f"still under {threshold:.2f} after the retrain at event {retrain.last}"
    return "retrain", f"under {threshold:.2f} with {lost} failures and skips to learn from"
