from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from instar.engine.memory.calibration import WIDTH
from instar.engine.training.retrieval import GUESSED, TEMPERATURE, Corpus, Scores, log_scores, paired_gain, summarize
from instar.engine.training.retrieval import score as score_in
from instar.fsm.events import Interval, Retrieval


def unit(*rows: tuple[float, ...]) -> NDArray[np.float32]:
    made: NDArray[np.float32] = np.array(rows, dtype=np.float32)
    lengths: NDArray[np.float32] = np.linalg.norm(made, axis=1, keepdims=True)
    return (made / np.where(lengths > 0, lengths, np.float32(1))).astype(np.float32, copy=False)


def score(questions: NDArray[np.float32], answers: list[str], texts: list[str], vectors: NDArray[np.float32]) -> Scores:
    """Each text is an answer of its own."""
    corpus = Corpus.of([(text, text) for text in texts])
    return score_in(questions, answers, corpus, vectors[[texts.index(text) for text in corpus.texts]])


def test_rank_counts_the_candidates_that_are_nearer() -> None:
    corpus = unit((1, 0), (0, 1), (1, 1))
    scores = score(unit((1, 0.1), (0.1, 1), (1, 0.1)), ["a", "c", "b"], ["a", "b", "c"], corpus)
    assert scores.ranks.tolist() == [1, 2, 3]
    np.testing.assert_allclose(scores.reciprocal, [1, 1 / 2, 1 / 3])
    assert summarize(scores) == Retrieval(
        pairs=3, recall_at_1=0.333333, mrr=0.611111, confidence=round(float(scores.confidences.mean()), 6)
    )


def test_ties_count_against_the_right_answer() -> None:
    same = unit((1, 0), (1, 0), (1, 1e-7), (0, 1))
    assert score(unit((1, 0)), ["b"], ["a", "b", "c", "d"], same).ranks.tolist() == [3]
    nothing = unit((0, 0))  # a question that could not be embedded is as far from everything
    assert score(nothing, ["b"], ["a", "b", "c", "d"], same).ranks.tolist() == [4]


def test_the_same_text_twice_is_one_candidate() -> None:
    corpus = unit((1, 0.2), (1, 0), (1, 0), (0, 1))
    scores = score(unit((1, 0.2), (0, 1)), ["right", "other"], ["right", "wrong", "wrong", "other"], corpus)
    assert scores.ranks.tolist() == [1, 1]
    twice = score(unit((1, 0)), ["right"], ["wrong", "wrong", "right"], unit((1, 0), (1, 0), (0.9, 0.1)))
    assert twice.ranks.tolist() == [2]


def test_answer_that_the_corpus_lacks_scores_nothing() -> None:
    scores = score(unit((1, 0)), ["absent"], ["a"], unit((1, 0)))
    assert (scores.ranks.tolist(), scores.reciprocal.tolist(), scores.confidences.tolist()) == ([0], [0.0], [0.0])


def test_confidence_is_the_softmax_of_the_right_answer() -> None:
    question, corpus = unit((1, 0.3)), unit((1, 0), (0.5, 1), (0, 1))
    cosines = (question @ corpus.T)[0]
    expected = np.exp(cosines / TEMPERATURE) / np.exp(cosines / TEMPERATURE).sum()
    for place, text in enumerate("abc"):
        got = score(question, [text], list("abc"), corpus).confidences[0]
        assert got == pytest.approx(expected[place], rel=1e-4)


def test_many_questions_in_blocks_score_as_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(1)
    questions = unit(*generator.standard_normal((40, 6)))
    corpus = unit(*generator.standard_normal((30, 6)))
    texts = [f"t{n}" for n in range(30)]
    answers = [texts[n % 30] for n in range(40)]
    whole = score(questions, answers, texts, corpus)
    monkeypatch.setattr("instar.engine.training.retrieval._CELLS_MAX", 70)
    parts = score(questions, answers, texts, corpus)
    assert whole.ranks.tolist() == parts.ranks.tolist()
    np.testing.assert_allclose(whole.confidences, parts.confidences, rtol=1e-5)


def test_examples_of_an_answer_count_together_by_their_mean_kernel() -> None:
    corpus = Corpus.of([("x1", "a"), ("x2", "a"), ("y1", "b"), ("x1", "a")])
    assert (corpus.texts, corpus.answers, corpus.gives.tolist()) == (["x1", "x2", "y1"], ["a", "b"], [0, 0, 1])
    vectors = unit((1, 0.10), (1, -0.60), (1, 0.30))
    question = unit((1, 0))
    # "a" has the nearest example, but another one that is far.
    scores = score_in(np.concatenate([question, question]), ["a", "b"], corpus, vectors)
    cosines = (question @ vectors.T)[0].astype(float)
    nearness = np.array([WIDTH * np.log(np.exp(cosines[:2] / WIDTH).mean()), cosines[2]])
    assert nearness[0] > nearness[1]
    assert scores.ranks.tolist() == [1, 2]
    expected = np.exp(nearness / TEMPERATURE) / np.exp(nearness / TEMPERATURE).sum()
    np.testing.assert_allclose(scores.confidences, expected, rtol=1e-4)


def test_a_question_does_not_answer_itself() -> None:
    corpus = Corpus.of([("same", "a"), ("near", "b"), ("far", "a")])
    vectors = unit((1, 0), (1, 0.4), (0, 1))
    question = unit((1, 0))
    assert score_in(question, ["a"], corpus, vectors).ranks.tolist() == [1]
    assert score_in(question, ["a"], corpus, vectors, ["same"]).ranks.tolist() == [2]
    alone = Corpus.of([("same", "a"), ("near", "b")])
    found = score_in(question, ["a"], alone, vectors[:2], ["same"])
    assert (found.ranks.tolist(), found.confidences.tolist()) == ([0], [0.0])


def test_no_question_gives_zeros() -> None:
    scores = score(np.zeros((0, 4), np.float32), [], ["a"], unit((1, 0, 0, 0)))
    assert summarize(scores) == Retrieval(pairs=0, recall_at_1=0.0, mrr=0.0, confidence=0.0)
    assert paired_gain(scores.reciprocal, scores.reciprocal, 1) == Interval(0.0, 0.0, 0.0)
    empty = score(unit((1, 0)), ["a"], [], np.zeros((0, 2), np.float32))
    assert empty.ranks.tolist() == [0]


def test_gain_is_seeded_paired_and_covers_the_truth() -> None:
    generator = np.random.default_rng(7)
    before = generator.random(200)
    after = before + 0.1 + 0.05 * generator.standard_normal(200)
    gain = paired_gain(before, after, 3)
    assert gain == paired_gain(before, after, 3)
    assert gain != paired_gain(before, after, 4)
    assert gain.low < 0.1 < gain.high
    # Paired: the spread of the questions themselves (0.29) must not show, only that of the differences (0.05).
    assert gain.high - gain.low < 4 * 1.96 * 0.05 / np.sqrt(200)
    expected = 1.96 * (after - before).std() / np.sqrt(200)
    assert (gain.high - gain.low) / 2 == pytest.approx(expected, rel=0.15)


def test_interval_of_pure_chance_holds_zero_nineteen_times_in_twenty() -> None:
    generator = np.random.default_rng(11)
    misses = 0
    for seed in range(200):
        before, after = generator.random(60), generator.random(60)
        gain = paired_gain(before, after, seed)
        misses += not gain.low <= 0 <= gain.high
    assert 2 <= misses <= 24


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.integers(0, 2**31 - 1))
@settings(max_examples=50, deadline=None)
def test_interval_lies_around_its_mean(values: list[float], seed: int) -> None:
    before = np.zeros(len(values))
    gain = paired_gain(before, np.array(values), seed)
    assert min(values) - 1e-6 <= gain.low <= gain.high <= max(values) + 1e-6
    assert gain.mean == pytest.approx(float(np.mean(values)), abs=1e-6)


def test_chance_passes_the_lower_end_of_ninety_percent_one_time_in_twenty() -> None:
    drawn = np.random.default_rng(3)
    passed = {0.9: 0, 0.95: 0}
    for seed in range(200):
        ranks = drawn.choice([1.0, 0.5, 1 / 3, 0.2], size=(2, 150), p=[0.8, 0.1, 0.06, 0.04])
        found = {level: paired_gain(ranks[0], ranks[1], seed, level=level) for level in passed}
        assert found[0.95].low <= found[0.9].low <= found[0.9].mean == found[0.95].mean
        for level, gain in found.items():
            passed[level] += gain.low > 0.0
    assert 3 <= passed[0.9] <= 18  # 10 expected; beyond three standard deviations otherwise
    assert passed[0.95] < passed[0.9]


def asked_of(
    count: int, spread: float, seed: int = 5
) -> tuple[NDArray[np.float32], list[str], Corpus, NDArray[np.float32]]:
    """Questions near their own of eight answers, the farther from it the larger ``spread`` is."""
    drawn = np.random.default_rng(seed)
    centres = unit(*map(tuple, drawn.standard_normal((8, 32))))
    right = drawn.integers(0, 8, count)
    questions = unit(*map(tuple, centres[right] + spread * drawn.standard_normal((count, 32))))
    names = [str(number) for number in range(8)]
    return questions, [names[number] for number in right], Corpus.of([(name, name) for name in names]), centres


def test_log_score_is_better_of_a_model_that_tells_answers_apart_better() -> None:
    near, far = (log_scores(*asked_of(400, spread)) for spread in (0.15, 0.4))
    gain = paired_gain(far, near, 1, level=0.9)
    assert gain.low > 0.0
    assert near.max() <= 0.0
    assert far.min() >= np.log(GUESSED / 8)


def test_log_score_tells_more_of_a_pair_than_a_rank() -> None:
    """The same questions before and after: the log score's interval lies further from nothing, by its own width."""
    telling: dict[str, list[float]] = {"log": [], "rank": []}
    for seed in range(20):
        before, after = asked_of(150, 0.34, seed), asked_of(150, 0.3, seed)
        for name, values in (
            ("log", (log_scores(*before), log_scores(*after))),
            ("rank", (score_in(*before).reciprocal, score_in(*after).reciprocal)),
        ):
            difference = values[1] - values[0]
            telling[name].append(difference.mean() / (difference.std() / np.sqrt(len(difference))))
    assert np.mean(telling["log"]) > np.mean(telling["rank"]) > 0.0


def test_log_score_does_not_depend_on_how_wide_a_space_is() -> None:
    """Mixing the same direction into every vector brings all nearer together and changes no order."""
    questions, answers, corpus, vectors = asked_of(300, 0.3)
    wide = log_scores(questions, answers, corpus, vectors)

    def narrowed(rows: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.concatenate([0.6 * rows, np.full((len(rows), 1), 0.8, np.float32)], axis=1)

    narrow = log_scores(narrowed(questions), answers, corpus, narrowed(vectors))
    assert score_in(narrowed(questions), answers, corpus, narrowed(vectors)).ranks.tolist() == (
        score_in(questions, answers, corpus, vectors).ranks.tolist()
    )
    assert narrow.mean() == pytest.approx(wide.mean(), abs=0.01)


def test_log_score_of_an_answer_that_the_corpus_lacks_is_that_of_a_guess() -> None:
    corpus = Corpus.of([("a", "a"), ("b", "b")])
    found = log_scores(unit((1, 0), (1, 0)), ["a", "absent"], corpus, unit((1, 0), (0, 1)))
    np.testing.assert_allclose(found, np.log([1 - GUESSED + GUESSED / 2, GUESSED / 2]))
    assert log_scores(np.zeros((0, 2), np.float32), [], corpus, unit((1, 0), (0, 1))).tolist() == []
