"""What a training is measured by: pairs it did not learn from, old abilities, and how sure the model may be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from instar.engine.memory.calibration import FIT_MIN, TEMPERATURE, fit_temperature
from instar.engine.ports import Pair, TrainRequest
from instar.fsm.events import Ability, GainOf, Interval
from instar.fsm.words import digest_of

from .general import likenesses, rank_correlation
from .retrieval import Corpus, Scores, log_scores, paired_gain, score

Embed = Callable[[Sequence[str]], NDArray[np.float32]]
"""Texts to unit rows, (texts, dim)."""

OWN_SHARE = 16
"""One old pair in so many is not rehearsed, but asked before and after."""
OWN_MAX = 512
NEIGHBOURS = 1000
VALIDATED_MAX = 512
_RESAMPLES = 400


class Old(NamedTuple):
    """Old pairs, by what they are for; which is which depends on the input's hash alone."""

    rehearsed: list[Pair]
    own: list[Pair]

    @classmethod
    def of(cls, memory: Sequence[Pair]) -> Old:
        """Splits the old pairs."""
        asked = [pair for pair in memory if _is_own(pair)]
        return cls([pair for pair in memory if not _is_own(pair)], asked[:OWN_MAX])


def _is_own(pair: Pair) -> bool:
    return int(digest_of(pair.input.encode("utf-8", "replace"))[:8], 16) % OWN_SHARE == 0


class Measured(NamedTuple):
    """One model: its scores on held-out and old pairs, of probes by name, general likenesses, and its temperature."""

    heldout: Scores
    logs: NDArray[np.float64]
    """(pairs,), the log score of each held-out pair."""
    abilities: dict[str, NDArray[np.float64]]
    """By name the reciprocal rank of each case."""
    general: NDArray[np.float64]
    """(pairs,), the cosine of each pair of everyday sentences."""
    temperature: float | None

    @classmethod
    def nothing(cls) -> Measured:
        """What is given where nothing is measured."""
        return cls(Scores(np.zeros(0, np.int64), np.zeros(0)), np.zeros(0), {}, np.zeros(0), None)


class Measure:
    """Measures models on the same texts.

    Args:
        request: the training.
    """

    def __init__(self, request: TrainRequest) -> None:
        self._request = request
        self._judging = judging(request)
        self._own = Old.of(request.memory).own
        self._corpus = Corpus.of(documents_of(request))
        self._everything = Corpus.of([*documents_of(request), *examples_of(request, request.rows)])

    def texts(self) -> list[str]:
        """Lists what ``validated`` embeds."""
        pairs = self._request.validation[:VALIDATED_MAX]
        return [*(pair.input for pair in pairs), *self._corpus.texts] if pairs else []

    def validated(self, embed: Embed) -> float:
        """Gives the mean reciprocal rank on the validation pairs."""
        pairs = self._request.validation[:VALIDATED_MAX]
        scores = _ask(embed, pairs, self._corpus, embed(self._corpus.texts))
        return round(float(scores.reciprocal.mean()), 6)

    def of(self, embed: Embed, expected: float = TEMPERATURE) -> Measured:
        """Measures a model; ``expected`` is the temperature that few pairs do not move much."""
        vectors = embed(self._corpus.texts)
        abilities = {}
        if len(self._everything.texts) > len(self._corpus.texts):
            beside = embed(self._everything.texts)
            abilities["remembered"] = _ask(embed, self._judging, self._everything, beside).reciprocal
        if self._own:
            abilities["own"] = _ask(embed, self._own, self._corpus, vectors).reciprocal
        for name, pairs in self._request.probes.items():
            corpus = Corpus.of([(pair.output, pair.output) for pair in pairs])
            abilities[name] = _ask(embed, pairs, corpus, embed(corpus.texts)).reciprocal
        one = embed([text for text, _, _ in likenesses()])
        other = embed([text for _, text, _ in likenesses()])
        temperature = self._temperature(embed, vectors, expected)
        asked = [pair.input for pair in self._judging]
        answers = [pair.output for pair in self._judging]
        logs = log_scores(embed(asked), answers, self._corpus, vectors, asked) if asked else np.zeros(0)
        return Measured(
            _ask(embed, self._judging, self._corpus, vectors),
            logs,
            abilities,
            (one * other).sum(axis=1).astype(np.float64),
            temperature,
        )

    def _temperature(self, embed: Embed, vectors: NDArray[np.float32], expected: float) -> float | None:
        """Fits the temperature on all pairs that were not learnt, over each one's nearest documents.

        The sealed ones are among them: a temperature changes no rank, so what the gate judges does not depend on it,
        and one number is fitted on twice as many questions.
        """
        pairs = [*self._request.validation, *self._request.heldout]
        if len(pairs) < FIT_MIN or not self._corpus.texts:
            return None
        cosines = embed([pair.input for pair in pairs]) @ vectors.T
        nearest = np.argsort(-cosines, axis=1, kind="stable")[:, :NEIGHBOURS]
        number = {answer: place for place, answer in enumerate(self._corpus.answers)}
        right = np.array([number.get(pair.output, -1) for pair in pairs], dtype=np.int64)
        found = np.take_along_axis(cosines, nearest, axis=1)
        return fit_temperature(found, self._corpus.gives[nearest], right, expected=expected)


def judging(request: TrainRequest) -> list[Pair]:
    """Lists the pairs that judge: the sealed ones, and the validating ones too where no epoch is chosen by them."""
    return [*request.heldout, *(() if request.recipe.patience else request.validation)]


def documents_of(request: TrainRequest) -> list[tuple[str, str]]:
    """Lists among what an input finds its answer: all answers, and where inputs are drawn together, the old examples.

    The new rows are not among them: what they teach is to show on what was known before.
    """
    answers = dict.fromkeys([*request.corpus, *(pair.output for pair in judging(request))])
    return [*((answer, answer) for answer in answers), *examples_of(request, request.memory)]


def examples_of(request: TrainRequest, pairs: Sequence[Pair]) -> list[tuple[str, str]]:
    """Lists the inputs of pairs as documents, where the recipe draws inputs together."""
    together = request.recipe.loss == "nca" or request.recipe.positives != "answer"
    return [(pair.input, pair.output) for pair in pairs] if together else []


def compared(
    before: Measured, after: Measured, seed: int, *, level: float, of: GainOf
) -> tuple[Interval, tuple[Ability, ...]]:
    """Gives the gain on the held-out pairs, and how each old ability changed.

    Whether there is a gain is asked in one direction, whether an ability changed in both: by an interval of 95 %.

    Args:
        before: the base.
        after: the candidate.
        seed: of the bootstrap.
        level: what share of chances the interval of the gain covers.
        of: what the gain is measured by. Where that is not the rank of the right answer, that rank is an old ability.
    """
    ranks = before.heldout.reciprocal, after.heldout.reciprocal
    gain = paired_gain(*(ranks if of == "reciprocal rank" else (before.logs, after.logs)), seed, level=level)
    both = {name: (was, after.abilities[name]) for name, was in before.abilities.items()}
    if of != "reciprocal rank":
        both["ranked"] = ranks
    abilities = [
        Ability(name, len(was), round(float(was.mean()), 6), round(float(now.mean()), 6), paired_gain(was, now, seed))
        for name, (was, now) in both.items()
        if len(was)
    ]
    if len(before.general):
        abilities.append(_general(before.general, after.general, seed))
    return gain, tuple(abilities)


def _general(before: NDArray[np.float64], after: NDArray[np.float64], seed: int) -> Ability:
    """Compares the rank correlations of cosine and known likeness; the interval is of the same pairs, drawn again."""
    known = np.array([likeness for _, _, likeness in likenesses()])
    was, now = rank_correlation(before, known), rank_correlation(after, known)
    generator = np.random.default_rng(seed)
    changes = []
    for _ in range(_RESAMPLES):
        drawn = generator.integers(0, len(known), len(known))
        changes.append(rank_correlation(after[drawn], known[drawn]) - rank_correlation(before[drawn], known[drawn]))
    low, high = np.percentile(changes, [2.5, 97.5])
    change = Interval(round(now - was, 6), round(float(low), 6), round(float(high), 6))
    return Ability("general", len(known), round(was, 6), round(now, 6), change)


def _ask(embed: Embed, pairs: Sequence[Pair], corpus: Corpus, vectors: NDArray[np.float32]) -> Scores:
    if not pairs:
        return Scores(np.zeros(0, np.int64), np.zeros(0))
    asked = [pair.input for pair in pairs]
    return score(embed(asked), [pair.output for pair in pairs], corpus, vectors, asked)
