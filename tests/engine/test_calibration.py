from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from instar.engine.memory.calibration import (
    TEMPERATURE_MAX,
    TEMPERATURE_MIN,
    WIDTH,
    calibration_error,
    confidences,
    fit_temperature,
)


def world(
    temperature: float, count: int = 4000, seed: int = 3
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Questions whose right answer is drawn with the very probabilities that a temperature gives."""
    chance = np.random.default_rng(seed)
    cosines = chance.uniform(0.2, 0.9, (count, 6))
    answers = np.tile(np.arange(6), (count, 1))
    shares = np.exp(cosines / temperature)
    shares /= shares.sum(axis=1, keepdims=True)
    right = np.array([chance.choice(6, p=row) for row in shares])
    return cosines, answers, right


@pytest.mark.parametrize("temperature", [0.02, 0.05, 0.2])
def test_fitted_temperature_is_the_one_that_made_the_answers(temperature: float) -> None:
    cosines, answers, right = world(temperature)
    found = fit_temperature(cosines, answers, right)
    assert found == pytest.approx(temperature, rel=0.15)
    assert found > 0.98 * temperature  # rather too careful than too bold
    best, sure = confidences(cosines, answers, found)
    assert calibration_error(sure, best == right) < 0.025
    _, doubtful = confidences(cosines, answers, found * 4)
    assert calibration_error(doubtful, best == right) > 0.05


def test_neighbours_of_one_answer_count_together() -> None:
    cosines = np.array([[0.80, 0.79, 0.81]])
    answers = np.array([[0, 0, 1]])
    best, sure = confidences(cosines, answers, 0.05)
    nearness = np.array([WIDTH * np.log(np.exp(cosines[0, :2] / WIDTH).mean()), 0.81])
    expected = np.exp(nearness / 0.05) / np.exp(nearness / 0.05).sum()
    assert best.tolist() == [1]  # two that are less near do not outweigh it
    assert sure[0] == pytest.approx(expected[1])


@given(st.integers(0, 2**31 - 1), st.floats(0.01, 1.0))
@settings(max_examples=30, deadline=None)
def test_temperature_changes_how_sure_an_answer_is_never_which(seed: int, temperature: float) -> None:
    chance = np.random.default_rng(seed)
    cosines, answers = chance.uniform(-1, 1, (20, 7)), chance.integers(-1, 4, (20, 7))
    best, sure = confidences(cosines, answers, temperature)
    expected, _ = confidences(cosines, answers, 0.05)
    assert best.tolist() == expected.tolist()
    assert ((sure > 0) == (answers >= 0).any(axis=1)).all()
    assert (sure <= 1.0 + 1e-12).all()


def test_who_has_no_neighbour_has_no_answer() -> None:
    best, sure = confidences(np.array([[0.9, 0.8]]), np.array([[-1, -1]]), 0.05)
    assert (best.tolist(), sure.tolist()) == ([-1], [0.0])
    best, sure = confidences(np.zeros((2, 0)), np.zeros((2, 0), np.int64), 0.05)
    assert (best.tolist(), sure.tolist()) == ([-1, -1], [0.0, 0.0])


def test_too_few_questions_fit_nothing() -> None:
    cosines, answers, right = world(0.05, count=7)
    assert fit_temperature(cosines, answers, right, expected=0.123) == 0.123


def test_answers_that_are_always_or_never_right_stay_within_bounds() -> None:
    cosines, answers, _ = world(0.05, count=5000)
    best, _ = confidences(cosines, answers, 0.05)
    assert TEMPERATURE_MIN <= fit_temperature(cosines, answers, best) < 0.01
    assert 0.9 < fit_temperature(cosines, answers, np.full(5000, -1)) <= TEMPERATURE_MAX


def test_few_questions_move_the_expected_temperature_little() -> None:
    few, many = (fit_temperature(*world(0.2, count=count), expected=0.04) for count in (13, 2000))
    assert 0.04 < few < 0.1 < many < 0.25


def test_many_questions_in_blocks_answer_as_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    cosines, answers, _ = world(0.05, count=30)
    whole = confidences(cosines, answers, 0.05)
    monkeypatch.setattr("instar.engine.memory.calibration._CELLS_MAX", 13)
    parts = confidences(cosines, answers, 0.05)
    assert whole[0].tolist() == parts[0].tolist()
    np.testing.assert_allclose(whole[1], parts[1])


def test_calibration_error_is_the_mean_gap_between_said_and_done() -> None:
    sure = np.array([0.9, 0.9, 0.1, 0.1])
    correct = np.array([True, False, False, False])
    assert calibration_error(sure, correct) == pytest.approx((2 * 0.4 + 2 * 0.1) / 4)
    assert calibration_error(np.array([1.0]), np.array([True])) == 0.0
    assert calibration_error(np.zeros(0), np.zeros(0, bool)) == 0.0
