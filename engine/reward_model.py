"""The built-in reward model: pass or fail, and how strong the signal is.

============== ======================================================================= =============
outcome        reward                                                                  range
============== ======================================================================= =============
pass           0.5 + 0.5 · confidence                                                  0.50 … 1.00
skip           0.25                                                                    0.25
fail           0.1 · (1 − confidence) + 0.1 · closeness of the output to the reference 0.00 … 0.20
============== ======================================================================= =============

A confident failure is worse than an unsure one, a near miss better than nonsense, every failure worse than a skip and
every skip worse than a pass. What is not known earns nothing and costs nothing: without a confidence a pass is 1, a
failure has no part for doubt; without a reference it has none for closeness. A reward that the agent gives itself wins.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Final

from instar.fsm.events import EmbeddedItem, FeedbackReceived, Interval

from .diff_engine import token_similarity

SKIPPED: Final = 0.25
_PARTIAL: Final = 0.1
_GATE_REFUSED: Final = 0.25


class BuiltinRewardModel:
    """Scores by outcome and signal strength."""

    name = "builtin"

    def score(self, outcome: FeedbackReceived, item: EmbeddedItem | None) -> float:
        """Returns the reward, in 0..1; the confidence of the row of memory stands in for one that was not given."""
        if outcome.reward is not None and not math.isnan(outcome.reward):
            return _clamped(outcome.reward)
        given = outcome.confidence if outcome.confidence is not None else item.confidence if item else None
        confidence = 1.0 if given is None or math.isnan(given) else _clamped(given)
        match outcome.outcome:
            case "pass":
                return 0.5 + 0.5 * confidence
            case "skip":
                return SKIPPED
            case "fail":
                return _PARTIAL * (1.0 - confidence) + _PARTIAL * _closeness(outcome)


def score_mutation(passed: bool, gate_ran: bool = False) -> float:
    """Scores a mutation: 1 if its gate passed, 0.25 if it ran and refused, 0 if the patch never came that far."""
    return 1.0 if passed else _GATE_REFUSED if gate_ran else 0.0


def score_checkpoint(gain: Interval, level: float = 0.95) -> float:
    """Scores a checkpoint by how sure it is that it is better than its base, in 0..1; 0.5 means undecided.

    This is the chance that a normal variable with the gain's mean, and the standard error that its interval stands
    for, is above zero.

    Args:
        gain: what was gained.
        level: what share of chances its interval covers.
    """
    deviation = (gain.high - gain.low) / (2 * round(NormalDist().inv_cdf(0.5 + level / 2), 6))
    if not deviation > 0.0:
        return 0.5 if gain.mean == 0.0 or math.isnan(gain.mean) else float(gain.mean > 0.0)
    return 0.5 * (1.0 + math.erf(gain.mean / deviation / math.sqrt(2.0)))


def _closeness(outcome: FeedbackReceived) -> float:
    if outcome.reference is None or not outcome.output.strip():
        return 0.0
    return token_similarity(outcome.output, outcome.reference)


def _clamped(value: float) -> float:
    return min(1.0, max(0.0, value))
