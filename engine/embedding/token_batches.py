"""Texts through a model sorted by their number of tokens, about a thousand at a time: little padding, and what a layer
works on stays in the processor's cache.

A batch holds texts of one padded length, which depends on the text alone: so does its vector then, to the bit. Where
nothing is padded, a batch holds texts of any lengths.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .lanes import lanes, side_by_side
from .runs import Run, RunTexts, Tokens

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

TOKENS_MAX = 1024
"""Tokens of a batch, padding and all; on two cores 512 is slower, 2048 no faster, a fixed number of texts slower."""
_TOKENS_MIN = 128
"""Tokens of the last batches, which are smaller, so that no lane waits long for another."""
_TEXTS_MIN = 16
"""Fewer texts than these are cut into tokens by one thread."""

Cut = Callable[[list[str]], list[list[int]]]
"""From texts to the numbers of their tokens."""


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


def unpadded_rows(cut: Cut, run: RunTexts, texts: list[str], dim: int) -> NDArray[np.float32]:
    """Gives rows, (texts, dim), of any length; texts are cut, and run, side by side.

    Args:
        cut: cuts texts into tokens; may be called by several threads at a time.
        run: makes vectors of tokens; likewise.
        texts: what is embedded.
        dim: length of a vector.
    """
    rows = np.zeros((len(texts), dim), np.float32)
    share = max(_TEXTS_MIN, -(-len(texts) // lanes()))
    parts = [texts[start : start + share] for start in range(0, len(texts), share)]
    found = [text for part in side_by_side(cut, parts) for text in part]
    batches = list(_unpadded([len(text) for text in found], lanes()))
    made = side_by_side(lambda places: run([found[place] for place in places]), batches)
    for places, vectors in zip(batches, made, strict=True):
        rows[places] = vectors
    return rows


def cutting(tokenizer: str, tokens_max: int | None) -> Cut:
    """Gives a tokenizer as several threads may use it, cutting texts at the model's window.

    Args:
        tokenizer: as JSON of the tokenizers library.
        tokens_max: the window, in tokens.
    """
    from tokenizers import Tokenizer

    own: Any = Tokenizer.from_str(tokenizer)
    own.no_padding()
    own.enable_truncation(tokens_max)

    def cut(texts: list[str]) -> list[list[int]]:
        return [text.ids for text in own.encode_batch_fast(texts)]

    return cut


def _unpadded(lengths: Sequence[int], among: int) -> Iterator[list[int]]:
    """Gives the places of texts, the longest first, as many at a time as have room."""
    left = sum(lengths)
    batch: list[int] = []
    room = 0
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        if batch and lengths[place] > room:
            yield batch
            batch = []
        if not batch:
            room = TOKENS_MAX if among == 1 else min(TOKENS_MAX, max(_TOKENS_MIN, left // (2 * among)))
        batch.append(place)
        room -= lengths[place]
        left -= lengths[place]
    if batch:
        yield batch


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
