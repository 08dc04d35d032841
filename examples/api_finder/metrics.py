"""Measures of a ranking, and how sure a difference between two of them is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Difference:
    """A mean difference with the bounds of its bootstrap interval."""

    mean: float
    low: float
    high: float


def recall_at_1(ranks: np.ndarray) -> np.ndarray:
    """Scores each request 1 where the right answer came first.

    Args:
        ranks: int (requests,), the right answers' places, counted from 1.

    Returns:
        float64 (requests,); its mean is recall@1.
    """
    return np.asarray(ranks == 1, dtype=np.float64)


def reciprocal_rank(ranks: np.ndarray) -> np.ndarray:
    """Scores each request 1/place of its right answer; the mean is the MRR."""
    return 1.0 / ranks.astype(np.float64)


def paired_bootstrap(
    before: np.ndarray, after: np.ndarray, *, rounds: int = 5000, level: float = 0.95, seed: int = 0
) -> Difference:
    """Bounds the mean gain from `before` to `after` over the same requests.

    Percentile bootstrap over requests (Efron 1979; for paired systems, Koehn 2004).

    Args:
        before: float (requests,), one score a request.
        after: float (requests,), the same requests in the same order.
        rounds: Resamples.
        level: Coverage of the interval.
        seed: Of the resampling; the same seed gives the same bounds.

    Returns:
        The mean of `after - before` and its interval.

    Raises:
        ValueError: The two are not scores of the same requests, or there are none.
    """
    if before.shape != after.shape or before.size == 0:
        raise ValueError(f"scores of the same requests are needed: {before.shape}, {after.shape}")
    gain = after - before
    generator = np.random.default_rng(seed)
    means = np.array([gain[generator.integers(0, gain.size, gain.size)].mean() for _ in range(rounds)])
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return Difference(float(gain.mean()), float(low), float(high))


def calibration_error(confidences: np.ndarray, right: np.ndarray, bins: int = 10) -> float:
    """Returns the expected calibration error in 0..1 over equally wide bins (Guo et al. 2017)."""
    places = np.minimum((confidences * bins).astype(int), bins - 1)
    error = 0.0
    for place in np.unique(places):
        inside = places == place
        error += inside.mean() * abs(confidences[inside].mean() - right[inside].mean())
    return float(error)
