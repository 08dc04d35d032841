"""Drift over time: whether a window of texts comes from where an earlier window came from.

The two-sample test of Gretton et al. (A Kernel Two-Sample Test, JMLR 2012): the unbiased estimate of the squared
maximum mean discrepancy under a Gaussian kernel, whose width is the median distance of the pooled sample, against its
distribution when the two windows are mixed at random.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

PERMUTATIONS: Final = 1_000
"""The smallest p-value that a test can give is one over one more than this."""
EXAMPLES: Final = 3


class WindowTest(Struct, frozen=True, kw_only=True):
    """What a test of two windows found.

    ``p_value`` is the chance of as large a discrepancy were both windows from one source; ``effect`` is the discrepancy
    in standard deviations of that chance. ``farthest`` and ``nearest`` are rows of the current window: those that the
    reference explains least and best.
    """

    mmd2: float
    p_value: float
    effect: float
    bandwidth: float
    seed: int
    permutations: int
    farthest: tuple[int, ...]
    nearest: tuple[int, ...]


def compare_windows(
    reference: NDArray[np.float32], current: NDArray[np.float32], *, seed: int, permutations: int = PERMUTATIONS
) -> WindowTest:
    """Tests whether two windows of vectors come from one source.

    Args:
        reference: vectors of the earlier window, (rows, dim).
        current: vectors of the later window, (rows, dim).
        seed: of the permutations; the same windows and seed give the same numbers.
        permutations: how often the windows are mixed.

    Raises:
        ValueError: a window holds fewer than two rows, or the vectors have different lengths.
    """
    if min(len(reference), len(current)) < 2 or reference.shape[1] != current.shape[1]:
        raise ValueError(
            f"two windows of at least two vectors each are compared, not {reference.shape}, {current.shape}"
        )
    pooled = np.concatenate([reference, current]).astype(np.float64)
    m, n = len(reference), len(current)
    squared = _distances(pooled)
    above = squared[np.triu_indices(m + n, 1)]
    median = float(np.median(above[above > 0])) if (above > 0).any() else 1.0
    kernel = np.exp(-squared / median)
    np.fill_diagonal(kernel, 0.0)
    found = float(_mmd2(kernel, np.arange(m + n)[None], m)[0])
    chance = np.random.default_rng(seed)
    orders = chance.permuted(np.tile(np.arange(m + n), (permutations, 1)), axis=1)
    mixed = _mmd2(kernel, orders, m)
    spread = float(mixed.std())
    order = np.argsort(kernel[m:, :m].mean(axis=1) - kernel[m:, m:].sum(axis=1) / (n - 1), kind="stable")
    return WindowTest(
        mmd2=round(found, 9),
        p_value=round((1 + int((mixed >= found - 1e-12).sum())) / (permutations + 1), 6),
        effect=round((found - float(mixed.mean())) / spread, 6) if spread else 0.0,
        bandwidth=round(float(np.sqrt(median / 2)), 9),
        seed=seed,
        permutations=permutations,
        farthest=tuple(int(row) for row in order[:EXAMPLES]),
        nearest=tuple(int(row) for row in order[::-1][:EXAMPLES]),
    )


def _distances(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared distances between rows, (rows, rows)."""
    lengths = np.einsum("nd,nd->n", rows, rows)
    found: NDArray[np.float64] = np.maximum(lengths[:, None] + lengths[None] - 2.0 * rows @ rows.T, 0.0)
    found[found < 1e-12] = 0.0
    return found


def _mmd2(kernel: NDArray[np.float64], orders: NDArray[np.int64], m: int) -> NDArray[np.float64]:
    """Gives the unbiased estimate for each order, whose first ``m`` places are the reference: (orders,)."""
    size = len(kernel)
    n = size - m
    first = np.zeros((len(orders), size))
    np.put_along_axis(first, orders[:, :m], 1.0, axis=1)
    second = 1.0 - first
    with_first = first @ kernel
    within = np.einsum("ps,ps->p", with_first, first)
    between = np.einsum("ps,ps->p", with_first, second)
    rest = kernel.sum() - within - 2.0 * between
    found: NDArray[np.float64] = within / (m * (m - 1)) + rest / (n * (n - 1)) - 2.0 * between / (m * n)
    return found
