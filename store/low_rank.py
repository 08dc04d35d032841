"""A tensor as another one plus a product of two small matrices, computed to the same bits on every machine.

What LoRA (Hu et al. 2021) learns is that product alone: a checkpoint then stores it, and the rest by the name of what
the base stores. A library's matrix product may be rounded otherwise on another processor; here each element is summed
in double precision, in the order of the rank, by operations that IEEE 754 defines to the bit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def with_product(
    base: NDArray[np.float32], narrow: NDArray[np.float32], wide: NDArray[np.float32], scale: float
) -> NDArray[np.float32]:
    """Gives ``base + scale · wide @ narrow``, rounded to float32 once.

    Args:
        base: (out, in).
        narrow: (rank, in), the first of LoRA's matrices.
        wide: (out, rank), the second.
        scale: what the product counts.
    """
    total = base.astype(np.float64)
    for row, column in zip(narrow.astype(np.float64), wide.astype(np.float64).T, strict=True):
        product = np.multiply(column[:, None], row[None, :])
        np.multiply(product, scale, out=product)
        np.add(total, product, out=total)
    return total.astype(np.float32)
