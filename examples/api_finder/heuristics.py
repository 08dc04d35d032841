"""Scoring: how good a candidate is, in which order candidates come, how sure the agent is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

LEXICAL_WEIGHT = 0.2
"""What a full overlap of words is worth, in cosine units."""
TEMPERATURE = 0.06
"""Softmax temperature in cosine units; fitted on requests from modules that are not held out."""


def overlap(asked: frozenset[str], offered: Sequence[frozenset[str]], rarity: Mapping[str, float]) -> np.ndarray:
    """Measures which share of a request's words, by rarity, each candidate's text holds.

    Args:
        asked: The request's words.
        offered: Each candidate's words.
        rarity: Inverse document frequency of the words; an unknown word counts nothing.

    Returns:
        float32 (candidates,) in 0..1.
    """
    total = sum(rarity.get(word, 0.0) for word in sorted(asked)) or 1.0
    shares = [sum(rarity.get(word, 0.0) for word in sorted(asked & words)) for words in offered]
    return np.array(shares, dtype=np.float32) / total


def score(cosine: np.ndarray, lexical: np.ndarray, boost: np.ndarray) -> np.ndarray:
    """Combines the evidence for each candidate into one number, float32 (candidates,)."""
    return np.asarray(cosine + LEXICAL_WEIGHT * lexical + boost)


def order(scores: np.ndarray) -> np.ndarray:
    """Returns the candidates' indices, best first; ties keep their order."""
    return np.argsort(-scores, kind="stable")


def confidence(ranked: np.ndarray) -> float:
    """Returns the softmax probability of the first of the ranked scores, in 0..1.

    Temperature scaling after Guo et al. 2017, "On Calibration of Modern Neural Networks".
    """
    weights = np.exp((ranked - ranked.max()) / TEMPERATURE)
    return float(weights[0] / weights.sum())
