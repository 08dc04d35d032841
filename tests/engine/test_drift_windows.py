"""The two-sample test over windows: its error of the first kind, its power, its repeatability."""

from __future__ import annotations

import numpy as np
import pytest

from instar.engine.drift.windows import _mmd2, compare_windows


def window(seed: int, rows: int = 64, dim: int = 32, shift: float = 0.0) -> np.ndarray:
    found = np.random.default_rng(seed).normal(size=(rows, dim)).astype(np.float32)
    found[:, 0] += shift
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def test_estimate_is_the_sum_of_the_paper() -> None:
    left, right = window(1, 7).astype(float), window(2, 5).astype(float)
    pooled = np.concatenate([left, right])
    kernel = np.exp(-((pooled[:, None] - pooled[None]) ** 2).sum(axis=2))
    told = sum(kernel[i, j] for i in range(7) for j in range(7) if i != j) / 42
    told += sum(kernel[i, j] for i in range(7, 12) for j in range(7, 12) if i != j) / 20
    told -= 2 * sum(kernel[i, j] for i in range(7) for j in range(7, 12)) / 35
    np.fill_diagonal(kernel, 0.0)
    assert _mmd2(kernel, np.arange(12)[None], 7)[0] == pytest.approx(told)


def test_windows_of_one_source_differ_as_seldom_as_the_p_value_says() -> None:
    low = sum(
        compare_windows(window(2 * n), window(2 * n + 1), seed=n, permutations=200).p_value < 0.05 for n in range(200)
    )
    assert 1 <= low <= 22  # 10 expected; beyond three standard deviations otherwise


def test_window_of_another_source_is_found() -> None:
    found = compare_windows(window(1), window(2, shift=2.0), seed=3)
    assert found.p_value < 0.01
    assert found.effect > 3.0


def test_rows_from_elsewhere_are_the_examples() -> None:
    current = window(2)
    current[[5, 9, 11]] = np.eye(32, dtype=np.float32)[0] * 1.0
    current[[5, 9, 11], 1] = [0.01, 0.02, 0.03]
    assert set(compare_windows(window(1), current, seed=3).farthest) == {5, 9, 11}


def test_same_windows_and_seed_give_the_same_numbers() -> None:
    first, second = (compare_windows(window(1), window(2, 40), seed=5) for _ in range(2))
    assert first == second
    assert compare_windows(window(1), window(1), seed=5).p_value > 0.5


@pytest.mark.parametrize(("rows", "dim"), [(1, 32), (64, 16)])
def test_windows_that_cannot_be_compared_are_refused(rows: int, dim: int) -> None:
    with pytest.raises(ValueError, match="at least two vectors"):
        compare_windows(window(1), window(2, rows, dim), seed=1)


def test_windows_of_equal_rows_are_no_drift() -> None:
    same = np.ones((8, 4), np.float32)
    assert compare_windows(same, same, seed=1).p_value == 1.0
