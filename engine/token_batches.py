"""Texts through a model sorted by their number of tokens, about a thousand at a time: little padding, and what a layer
works on stays in the processor's cache.

A batch holds texts of one padded length, which depends on the text alone: so does its vector then, to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .lanes import side_by_side
from .model_runs import Run, Tokens

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

TOKENS_MAX = 1024
"""Tokens of a batch, padding and all; measured on two cores: 512 and 2048 are slower, as is a fixed number of texts."""


def run_rows(
    model: SentenceTransformer, run: Run, texts: list[str], dim: int, *, parted: bool = False
) -> NDArray[np.float32]:
    """Gives rows, (texts, dim), of any length.

    Args:
        model: whose tokenizer cuts the texts.
        run: makes vectors of tokens.
        texts: what is embedded.
        dim: length of a vector.
        parted: whether batches are run side by side, each by one thread.
    """
    rows = np.zeros((len(texts), dim), np.float32)
    if not texts:
        return rows
    found = model.tokenizer(texts, truncation=True, max_length=model.max_seq_length, verbose=False)["input_ids"]
    padding = model.tokenizer.pad_token_id or 0
    batches = list(_batches([len(one) for one in found]))

    def run_batch(batch: tuple[int, list[int]]) -> NDArray[np.float32]:
        length, places = batch
        return run(*_padded([found[place] for place in places], length, padding))

    made = side_by_side(run_batch, batches) if parted else map(run_batch, batches)
    for (_, places), vectors in zip(batches, made, strict=True):
        rows[places] = vectors
    return rows


def _padded_length(tokens: int) -> int:
    """Gives the length to which a text is padded: a multiple of 4, of 8 or, over 128 tokens, of 16."""
    step = 4 if tokens <= 32 else 8 if tokens <= 128 else 16
    return -(-tokens // step) * step


def _batches(lengths: list[int]) -> Iterator[tuple[int, list[int]]]:
    """Gives padded lengths, the longest first, and the places of texts, as many at a time as have room."""
    alike: dict[int, list[int]] = {}
    for place, length in enumerate(lengths):
        alike.setdefault(_padded_length(length), []).append(place)
    for length in sorted(alike, reverse=True):
        count = max(1, TOKENS_MAX // max(1, length))
        for start in range(0, len(alike[length]), count):
            yield length, alike[length][start : start + count]


def _padded(texts: list[list[int]], length: int, padding: int) -> tuple[Tokens, Tokens]:
    tokens = np.full((len(texts), length), padding, np.int64)
    mask = np.zeros((len(texts), length), np.int64)
    for row, text in enumerate(texts):
        tokens[row, : len(text)] = text
        mask[row, : len(text)] = 1
    return tokens, mask
