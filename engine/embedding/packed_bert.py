"""BERT (Devlin et al. 2019) for vectors alone: no padding, weights laid out once for the processor, steps fused.

Texts of any lengths stand one after another as rows of one matrix, (tokens, width), so that nothing is computed for
padding; only attention looks at one text, or at texts of one length, at a time. oneDNN's linear layers take weights
that were laid out in advance, and add the residual or apply GELU on the way out. torch compiles its own graphs to the
same two operators (``torch._inductor.fx_passes.mkldnn_fusion``); they have no public name, so whoever uses this
compares it with the model itself, and has another way where it fails.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import chain, groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional

from .kept_way import BertShape
from .runs import Rows, RunTexts

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_ROWS = 16
"""Rows are rounded up to these: oneDNN makes a kernel, half a millisecond long, for each number of rows that comes."""
_SHORT = 64
"""Tokens up to which texts of one length attend together; a longer text has enough to do alone."""
_POWER_MIN, _POWER_MAX = 2.0**-90, 2.0**110
"""Sums of powers between these lost nothing that bfloat16, or the products that follow, could show."""

_EMBEDDED = ("word", "position", "token_type")

Packed = tuple[torch.Tensor, torch.Tensor]
"""Weights as oneDNN wants them, and a bias."""


class _Group(NamedTuple):
    """Texts of one length, one after another from a row on."""

    start: int
    texts: int
    length: int

    @property
    def rows(self) -> slice:
        return slice(self.start, self.start + self.texts * self.length)


class _Layer(NamedTuple):
    attend: Packed
    """To queries, keys and values at once; scores come out as powers of two."""
    merge: Packed
    norm_attended: Packed
    widen: Packed
    narrow: Packed
    norm: Packed


def packed_run(model: SentenceTransformer, *, small: bool) -> RunTexts:
    """Gives a way to run a model in bfloat16 or float32, from tokens to means over each text.

    Raises:
        ValueError: it is no plain BERT with a mean over its tokens.
        AttributeError, RuntimeError: this torch, or this processor, has not what it takes.
    """
    bert, shape = _plain_bert(model)
    return _packed(shape, bert.state_dict(), small=small)


def packed_run_of(folder: Path, shape: BertShape, *, small: bool) -> RunTexts:
    """Gives the same way as ``packed_run``, from the weights in a folder of which the shape is known.

    Raises:
        OSError, KeyError: they do not lie there, under the names that ``BertModel`` gives them.
        AttributeError, RuntimeError: this torch, or this processor, has not what it takes.
    """
    from safetensors.torch import load_file

    weights = load_file(folder / "model.safetensors")
    return _packed(shape, {name: weight.float() for name, weight in weights.items()}, small=small)


def shape_of(model: SentenceTransformer) -> BertShape:
    """Reads the shape of a plain BERT.

    Raises:
        ValueError: it is no plain BERT with a mean over its tokens.
    """
    return _plain_bert(model)[1]


def _packed(shape: BertShape, weights: Mapping[str, torch.Tensor], *, small: bool) -> RunTexts:
    with torch.inference_mode():
        return _PackedBert(shape, weights, torch.bfloat16 if small else torch.float32).rows


def _plain_bert(model: SentenceTransformer) -> tuple[Any, BertShape]:
    from transformers import BertModel

    transformer, *rest = model
    bert: Any = getattr(transformer, "auto_model", None)
    plain = type(bert) is BertModel and bert.config.hidden_act == "gelu" and not bert.config.is_decoder
    if not plain or getattr(bert.config, "position_embedding_type", "absolute") != "absolute" or not _is_mean(rest):
        raise ValueError("only a plain BERT with a mean over its tokens is run so")
    config = bert.config
    return bert, BertShape(
        int(config.num_hidden_layers),
        int(config.num_attention_heads),
        int(config.hidden_size),
        float(config.layer_norm_eps),
    )


def _is_mean(modules: list[Any]) -> bool:
    """Says whether what follows the transformer gives a mean over all tokens, of whatever length."""
    if [type(module).__name__ for module in modules] not in (["Pooling"], ["Pooling", "Normalize"]):
        return False
    told = getattr(modules[0], "get_pooling_mode_str", None)  # until sentence-transformers 6
    return bool((told() if told is not None else modules[0].pooling_mode) == "mean")


class _PackedBert:
    """The weights of a ``BertModel``, copied; safe to share between threads."""

    def __init__(self, shape: BertShape, weights: Mapping[str, torch.Tensor], dtype: torch.dtype) -> None:
        self._dtype, self._heads, self._width, self._epsilon = dtype, shape.heads, shape.width, shape.epsilon
        self._weights: Mapping[str, torch.Tensor] = weights
        words, places, kinds = (weights[f"embeddings.{name}_embeddings.weight"] for name in _EMBEDDED)
        self._words = words.to(dtype, copy=True)
        self._places = (places + kinds[0]).to(dtype)
        self._norm = self._plain("embeddings.LayerNorm")
        self._layers = [self._layer(f"encoder.layer.{number}") for number in range(shape.layers)]
        self._weights = {}

    def rows(self, texts: Sequence[Sequence[int]]) -> Rows:
        """Gives a vector a text, (texts, width) float32, of any length.

        Args:
            texts: tokens; texts of one length stand together.
        """
        lengths = [len(text) for text in texts]
        count = -(-sum(lengths) // _ROWS) * _ROWS
        tokens, places = np.zeros(count, np.int64), np.zeros(count, np.int64)
        tokens[: sum(lengths)] = np.fromiter(chain.from_iterable(texts), np.int64)
        places[: sum(lengths)] = np.concatenate([np.arange(length) for length in lengths])
        groups: list[_Group] = []
        start = 0
        for length, alike in groupby(lengths):
            groups.append(_Group(start, len(list(alike)), length))
            start = groups[-1].rows.stop
        with torch.inference_mode():
            states = self._states(torch.from_numpy(tokens), torch.from_numpy(places), groups)
            means = [states[one.rows].view(one.texts, one.length, -1).float().mean(1) for one in groups]
            rows: Rows = torch.cat(means).numpy()
            return rows

    def _states(self, tokens: torch.Tensor, places: torch.Tensor, groups: list[_Group]) -> torch.Tensor:
        """Gives the last layer's states, (tokens, width)."""
        states = self._normed(self._words[tokens] + self._places[places], self._norm)
        attended = torch.zeros_like(states)
        for layer in self._layers:
            asked = _linear(states, layer.attend)
            for group in groups:
                self._attend(asked[group.rows], attended[group.rows], group)
            states = self._normed(_linear_onto(states, attended, layer.merge), layer.norm_attended)
            states = self._normed(_linear_onto(states, _linear(states, layer.widen, "gelu"), layer.narrow), layer.norm)
        return states

    def _attend(self, asked: torch.Tensor, attended: torch.Tensor, group: _Group) -> None:
        """Writes what each token of some texts attends to, (tokens, width)."""
        _, count, length = group
        if self._dtype == torch.bfloat16 and length > _SHORT:
            for start in range(0, len(asked), length):
                whole = slice(start, start + length)
                query, key, value = asked[whole].view(length, 3, self._heads, -1).permute(1, 2, 0, 3).contiguous()
                found = _attention(query, key, value)
                attended[whole].view(length, self._heads, -1).copy_(found.transpose(0, 1))
            return
        query, key, value = asked.view(count, length, 3, self._heads, -1).permute(2, 0, 3, 1, 4)
        found = functional.scaled_dot_product_attention(query, key, value, scale=math.log(2))
        attended.view(count, length, self._heads, -1).copy_(found.transpose(1, 2))

    def _normed(self, states: torch.Tensor, norm: Packed) -> torch.Tensor:
        return functional.layer_norm(states, (self._width,), *norm, self._epsilon)

    def _layer(self, name: str) -> _Layer:
        asking = [self._both(f"{name}.attention.self.{part}") for part in ("query", "key", "value")]
        (query, query_bias), *others = asking
        scale = math.log2(math.e) / math.sqrt(self._width // self._heads)
        weights, biases = zip((query * scale, query_bias * scale), *others, strict=True)
        return _Layer(
            self._packed(torch.cat(weights), torch.cat(biases)),
            self._packed(*self._both(f"{name}.attention.output.dense")),
            self._plain(f"{name}.attention.output.LayerNorm"),
            self._packed(*self._both(f"{name}.intermediate.dense")),
            self._packed(*self._both(f"{name}.output.dense")),
            self._plain(f"{name}.output.LayerNorm"),
        )

    def _both(self, name: str) -> Packed:
        return self._weights[f"{name}.weight"].detach(), self._weights[f"{name}.bias"].detach()

    def _packed(self, weight: torch.Tensor, bias: torch.Tensor) -> Packed:
        laid_out = torch.ops.mkldnn._reorder_linear_weight(weight.to(self._dtype), None)
        return laid_out, bias.to(self._dtype, copy=True)

    def _plain(self, name: str) -> Packed:
        weight, bias = self._both(name)
        return weight.to(self._dtype, copy=True), bias.to(self._dtype, copy=True)


def _attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Attends within one text, all (heads, tokens, numbers); scores are powers of two.

    A softmax takes the largest score away first, lest a power overflow. That costs more than the powers themselves, and
    scores are small: the powers are taken as they are, and again with care where their sums show that they are not.
    """
    scores = torch.bmm(query, key.transpose(1, 2))
    powers = scores.exp2_()
    sums = powers.sum(-1, keepdim=True)  # (heads, tokens, 1)
    least, most = torch.aminmax(sums)
    if float(least) > _POWER_MIN and float(most) < _POWER_MAX:
        return torch.bmm(powers, value).div_(sums)
    scores = torch.bmm(query, key.transpose(1, 2)).float() * math.log(2)
    return torch.bmm(torch.softmax(scores, -1).to(value.dtype), value)


def _linear(states: torch.Tensor, weights: Packed, then: str = "none") -> torch.Tensor:
    made: torch.Tensor = torch.ops.mkldnn._linear_pointwise(states, *weights, then, [], "none")
    return made


def _linear_onto(base: torch.Tensor, states: torch.Tensor, weights: Packed) -> torch.Tensor:
    made: torch.Tensor = torch.ops.mkldnn._linear_pointwise.binary(states, base, *weights, "add")
    return made
