"""Whether this processor's products give a row the same bits whatever rows stand beside it, by its libraries alone.

Where they do not, no vector can be the same to the bit in any batch: the product finds that at load, and keeps none.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch.nn import functional

from instar.engine.embedding.sentence_model import multiplies_bfloat16

COUNTS = (8, 16, 48, 104, 512)
SHAPES = ((384, 1152), (384, 384), (384, 1536), (1536, 384))


def need_steady_products(*, small: bool | None = None) -> None:
    """Skips the test where they are not; ``small`` asks for bfloat16, by default where the model would be run in it."""
    small = multiplies_bfloat16() if small is None else small
    if not _are_steady(torch.bfloat16 if small else torch.float32):
        pytest.skip("what this processor's products give for a row depends on the rows beside it")


def need_bfloat16() -> None:
    if not multiplies_bfloat16():
        pytest.skip("this processor, or torch on it, does not multiply bfloat16")


@cache
def _are_steady(dtype: torch.dtype) -> bool:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            return _attends_steadily(dtype) and all(_multiplies_steadily(*shape, dtype) for shape in SHAPES)
    finally:
        torch.set_num_threads(threads)


def _multiplies_steadily(wide: int, narrow: int, dtype: torch.dtype) -> bool:
    rows, weight, bias = _drawn(max(COUNTS) + 1, wide), _drawn(narrow, wide), _drawn(narrow)
    rows, weight, bias = rows.to(dtype), weight.to(dtype), bias.to(dtype)
    products: list[Callable[[torch.Tensor], torch.Tensor]] = [lambda some: functional.linear(some, weight, bias)]
    if torch.backends.mkldnn.is_available() and (dtype == torch.float32 or multiplies_bfloat16()):  # type: ignore[no-untyped-call]
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, None)
        products.append(lambda some: torch.ops.mkldnn._linear_pointwise(some, packed, bias, "none", [], "none"))
    return all(
        torch.equal(product(rows[:count]), product(rows)[:count])
        and torch.equal(product(rows[-count:]), product(rows)[-count:])
        for product in products
        for count in COUNTS
    )


def _attends_steadily(dtype: torch.dtype) -> bool:
    texts = _drawn(8, 12, 40, 32).to(dtype)
    together = functional.scaled_dot_product_attention(texts, texts, texts)
    return all(
        torch.equal(functional.scaled_dot_product_attention(one, one, one), together[place : place + 1])
        for place, one in enumerate(texts.split(1))  # type: ignore[no-untyped-call]
    )


def _drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))
