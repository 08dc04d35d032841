"""Small drawings in the text, as SVG coordinates: a line of scores, an interval about zero, a bar of shares."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from instar.fsm.events import Interval

from .rewards_board import Scored

SPARK = (120.0, 24.0)
WHISKER = (110.0, 16.0)
SHARES = (90.0, 10.0)
_EDGE = 2.0
_POINTS_MAX = 60


class Whisker(Struct, frozen=True):
    """An interval on a line: where zero, the mean and both ends stand."""

    zero: float
    low: float
    high: float
    mean: float


class Share(Struct, frozen=True):
    """One part of a bar."""

    name: str
    x: float
    width: float


def spark_points(scores: Sequence[Scored]) -> str:
    """Places the last scores, each in 0..1, as the points of a polyline."""
    last = scores[-_POINTS_MAX:]
    step = (SPARK[0] - 2 * _EDGE) / max(len(last) - 1, 1)
    return " ".join(f"{_EDGE + step * place:.1f},{spark_y(one.score):.1f}" for place, one in enumerate(last))


def spark_y(score: float) -> float:
    """Gives the height of a score, 1 at the top."""
    return _EDGE + (1.0 - min(max(score, 0.0), 1.0)) * (SPARK[1] - 2 * _EDGE)


def spark_end(scores: Sequence[Scored]) -> tuple[float, float]:
    """Places the last score."""
    count = len(scores[-_POINTS_MAX:])
    return (SPARK[0] - _EDGE if count > 1 else _EDGE, spark_y(scores[-1].score))


def gain_scale(gains: Sequence[Interval]) -> float:
    """Gives the largest distance from zero that any interval reaches, so that all share one scale."""
    return max([abs(end) for gain in gains for end in (gain.low, gain.high)] + [1e-6])


def whisker(gain: Interval, scale: float) -> Whisker:
    """Places an interval on a line from ``-scale`` to ``scale``."""

    def place(value: float) -> float:
        return round(_EDGE + (value / scale + 1.0) / 2.0 * (WHISKER[0] - 2 * _EDGE), 1)

    return Whisker(place(0.0), place(gain.low), place(gain.high), place(gain.mean))


def shares(passes: int, fails: int, skips: int) -> list[Share]:
    """Cuts a bar in passes, fails and skips."""
    total = max(passes + fails + skips, 1)
    parts, x = [], 0.0
    for name, count in (("pass", passes), ("fail", fails), ("skip", skips)):
        width = SHARES[0] * count / total
        parts.append(Share(name, round(x, 1), round(width, 1)))
        x += width
    return parts
