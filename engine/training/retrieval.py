"""How well questions find their answers, and whether a difference is more than chance.

Numpy alone: what decides on a promotion should be short enough to read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from instar.engine.memory.calibration import WIDTH
from instar.fsm.events import Interval, Retrieval

TEMPERATURE = 0.05
"""Of the softmax that gives a confidence; fixed, so that confidences of two checkpoints compare."""
GUESSED = 0.05
"""So much of the probability is spread evenly over all answers before its logarithm is taken: one answer that a model
holds to be impossible then does not outweigh all others."""
_TEMPERATURES = np.exp(np.linspace(np.log(0.005), np.log(1.0), 33))
TIE = 1e-6
"""Cosines nearer than this are a tie: the order of a batch moves them by as much."""
RESAMPLES = 2000
_CELLS_MAX = 1 << 24


class Scores(Struct, frozen=True):
    """For each question the rank of its answer (1 is best, 0 where the corpus lacks it) and the confidence in it."""

    ranks: NDArray[np.int64]
    confidences: NDArray[np.float64]

    @property
    def reciprocal(self) -> NDArray[np.float64]:
        """Reciprocal ranks, (questions,); 0 where the corpus lacks the answer."""
        return np.where(self.ranks > 0, 1.0 / np.maximum(self.ranks, 1), 0.0)


class Corpus(Struct, frozen=True):
    """Documents and the answer that each gives: an answer's own text, or an input that it was right for.

    Attributes:
        texts: the documents, each once.
        answers: the distinct answers.
        gives: (documents,), the number of the answer of each.
    """

    texts: list[str]
    answers: list[str]
    gives: NDArray[np.int64]

    @classmethod
    def of(cls, documents: Sequence[tuple[str, str]]) -> Corpus:
        """Takes pairs of document and answer; of a pair that occurs twice the first counts."""
        once = list(dict.fromkeys(documents))
        number = {answer: place for place, answer in enumerate(dict.fromkeys(answer for _, answer in once))}
        gives = np.array([number[answer] for _, answer in once], dtype=np.int64)
        return cls([text for text, _ in once], list(number), gives)


def score(
    questions: NDArray[np.float32],
    answers: Sequence[str],
    corpus: Corpus,
    vectors: NDArray[np.float32],
    asked: Sequence[str] | None = None,
) -> Scores:
    """Ranks each question's right answer among all answers, by how near its documents are (see ``calibration``).

    Where each answer has one document that is the order of the cosines. Ties count against the right answer. The
    confidence is the probability that a softmax gives to the right answer.

    Args:
        questions: (questions, dim) unit rows.
        answers: the right answer for each question.
        corpus: the documents.
        vectors: (documents, dim) unit rows.
        asked: the questions' own texts: a document of the same text does not count for that question.
    """
    ranks = np.zeros(len(answers), dtype=np.int64)
    confidences = np.zeros(len(answers), dtype=np.float64)
    for rows, nearness, own in _answered(questions, answers, corpus, vectors, asked):
        found = np.isfinite(own)  # its only document may be the question itself
        # The right answer itself is within TIE of itself, so the count is its rank already.
        ranks[rows] = np.where(found, (nearness >= np.where(found, own, 0.0)[:, None] - TIE).sum(axis=1), 0)
        confidences[rows] = _softmax(nearness, own, TEMPERATURE)
    return Scores(ranks, confidences)


def log_scores(
    questions: NDArray[np.float32],
    answers: Sequence[str],
    corpus: Corpus,
    vectors: NDArray[np.float32],
    asked: Sequence[str] | None = None,
) -> NDArray[np.float64]:
    """Gives the logarithm (nats) of the probability of each right answer, (questions,): the log score (Good 1952).

    The probabilities are those of the temperature under which the model scores best on these very questions, so that a
    space which is merely wider or narrower scores the same. The score is proper, so the better one is the better model
    and not the bolder one; and it tells more of a question than the rank of its answer does. Arguments as ``score``.
    """
    sure = np.zeros((len(answers), len(_TEMPERATURES)))
    for rows, nearness, own in _answered(questions, answers, corpus, vectors, asked):
        for place, temperature in enumerate(_TEMPERATURES):
            sure[rows, place] = _softmax(nearness, own, float(temperature))
    found = np.log((1.0 - GUESSED) * sure + GUESSED / max(1, len(corpus.answers)))
    return np.asarray(found[:, found.sum(axis=0).argmax()])


def _answered(
    questions: NDArray[np.float32],
    answers: Sequence[str],
    corpus: Corpus,
    vectors: NDArray[np.float32],
    asked: Sequence[str] | None,
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]]:
    """Yields blocks of the questions whose answer is there: which, (block, answers) nearness, and that of their own."""
    number = {answer: place for place, answer in enumerate(corpus.answers)}
    right = np.array([number.get(answer, -1) for answer in answers], dtype=np.int64)
    same = _same(asked, corpus)
    order = np.argsort(corpus.gives, kind="stable")
    begins = np.searchsorted(corpus.gives[order], np.arange(len(number)))
    block = max(1, _CELLS_MAX // max(1, len(corpus.texts)))
    known = np.flatnonzero(right >= 0)
    for start in range(0, len(known), block):
        rows = known[start : start + block]
        cosines = (questions[rows] @ vectors[order].T).astype(np.float64)  # (block, documents by answer)
        for row, question in enumerate(rows):
            cosines[row, np.isin(order, same.get(int(question), ()))] = -np.inf
        nearness = _nearness(cosines, begins)
        yield rows, nearness, nearness[np.arange(len(rows)), right[rows]]


def _softmax(nearness: NDArray[np.float64], own: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Gives the probability of the answer whose nearness is ``own``, (block,)."""
    top = nearness.max(axis=1)
    total = np.exp((nearness - top[:, None]) / temperature).sum(axis=1)
    return np.asarray(np.exp((own - top) / temperature) / total)


def _same(asked: Sequence[str] | None, corpus: Corpus) -> dict[int, list[int]]:
    if asked is None:
        return {}
    places: dict[str, list[int]] = {}
    for place, text in enumerate(corpus.texts):
        places.setdefault(text, []).append(place)
    return {number: places[text] for number, text in enumerate(asked) if text in places}


def _nearness(cosines: NDArray[np.float64], begins: NDArray[np.int64]) -> NDArray[np.float64]:
    """Gives ``WIDTH · log mean exp(cos / WIDTH)`` of each run of columns, the very cosine where it is one alone.

    What was taken out of a run (−inf) does not count for its mean.
    """
    top = np.maximum.reduceat(cosines, begins, axis=1)
    runs = np.diff(np.append(begins, cosines.shape[1]))
    above = np.where(np.isfinite(top), top, 0.0)
    summed = np.add.reduceat(np.exp((cosines - np.repeat(above, runs, axis=1)) / WIDTH), begins, axis=1)
    counts = np.add.reduceat(np.isfinite(cosines), begins, axis=1, dtype=np.int64)
    with np.errstate(divide="ignore"):
        return np.asarray(above + WIDTH * np.log(summed / np.maximum(counts, 1)))


def summarize(scores: Scores) -> Retrieval:
    """Gives the means over all questions; zeros where there is none."""
    count = len(scores.ranks)
    if count == 0:
        return Retrieval(pairs=0, recall_at_1=0.0, mrr=0.0, confidence=0.0)
    return Retrieval(
        pairs=count,
        recall_at_1=round(float((scores.ranks == 1).mean()), 6),
        mrr=round(float(scores.reciprocal.mean()), 6),
        confidence=round(float(scores.confidences.mean()), 6),
    )


def paired_gain(before: NDArray[np.float64], after: NDArray[np.float64], seed: int, *, level: float = 0.95) -> Interval:
    """Gives the mean of ``after − before`` over the same questions with its percentile bootstrap interval.

    Efron & Tibshirani 1993, chapter 13; ``RESAMPLES`` resamples, the same for the same seed. Without questions all
    is zero; with one, the interval is that one difference and says nothing about chance.
    """
    difference = np.asarray(after, dtype=np.float64) - np.asarray(before, dtype=np.float64)
    count = len(difference)
    if count == 0:
        return Interval(0.0, 0.0, 0.0)
    generator = np.random.default_rng(seed)
    means = np.empty(RESAMPLES)
    block = max(1, _CELLS_MAX // count)
    for start in range(0, RESAMPLES, block):
        size = min(block, RESAMPLES - start)
        means[start : start + size] = difference[generator.integers(0, count, (size, count))].mean(axis=1)
    low, high = np.percentile(means, [50 * (1 - level), 50 * (1 + level)])
    return Interval(round(float(difference.mean()), 6), round(float(low), 6), round(float(high), 6))
