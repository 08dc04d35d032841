"""Texts to unit vectors in a training: tokens and frozen layers are computed once, the layers that learn each time.

The lowest layers do not change in a training, or from some step on, and the same texts come again every epoch: what
those layers make of each text is computed before the first step, or at that one, and kept. All of it is computed then,
in one order, so that a resumed training begins with the same bits; where it does not fit ``BYTES_MAX`` nothing is kept.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from instar.engine.embedder import prepare

from .layers import anatomy
from .packing import pack

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

logger = logging.getLogger("instar.engine")

BYTES_MAX = 1 << 30
"""Of what the frozen layers made of all texts."""
_CHUNK = 64
_PART = 32
_ROWS, _LENGTH = 8, 4
"""What a part's number of texts and its length are rounded up to: kernels are made anew for each shape that comes."""
_AGREES = 1e-2
_PROBES = ("a text of several words, to compare two ways through the same layers", "short")


class Encoder:
    """Encodes texts with a model that learns.

    Args:
        model: on the device where it learns.
        frozen: how many of the lowest layers do not learn; below 0 the embeddings learn too.
        tokens_max: where a text is cut.
    """

    def __init__(self, model: SentenceTransformer, *, frozen: int, tokens_max: int) -> None:
        self._model = model
        self.device = next(model.parameters()).device
        getattr(model, "tokenizer").padding_side = "right"  # noqa: B009 — its type does not say so
        model.max_seq_length = min(tokens_max, model.max_seq_length or tokens_max)
        self._frozen = max(0, frozen) if frozen >= 0 else -1
        self._tokens: dict[str, dict[str, torch.Tensor]] = {}
        self._order: list[str] = []
        self._kept: dict[str, torch.Tensor] = {}
        self._given: Any = None
        self._packs = False

    def prepare(self, texts: Iterable[str]) -> None:
        """Computes, once and before anything is learnt, what does not change in the training.

        Args:
            texts: every text that will come.
        """
        order = sorted(set(texts), key=lambda text: (len(text), text))
        self._tokenize(order)
        self._order = order
        if self._frozen >= 0:
            self._take_out(self._frozen)
        self._packs = self._can_pack()

    def freeze_out(self, layers: int) -> None:
        """Ends the learning of the lowest layers: what they make of each text is computed now, for all steps to come.

        Args:
            layers: how many, those among them that never learnt; the uppermost goes on learning.
        """
        import torch

        inner, _, _, stack = anatomy(self._model)
        taken = max(0, self._frozen) if self._given is not None else 0  # these are out of the stack already
        new = min(layers - taken, len(stack) - 1)
        if new <= 0:
            return
        stack[:new].requires_grad_(False)
        embeddings: Any = getattr(inner, "embeddings", None)
        if isinstance(embeddings, torch.nn.Module):
            embeddings.requires_grad_(False)
        learning = self._model.training
        self._model.eval()
        self._take_out(new)
        self._model.train(learning)

    def _take_out(self, layers: int) -> None:
        """Keeps what the lowest layers of the stack make of each prepared text, and takes those layers out."""
        import torch

        inner, holder, name, stack = anatomy(self._model)
        dim = self._model.get_embedding_dimension() or 0
        size = sum(self._length(text) for text in self._order) * dim * 4
        if not self._order or size > BYTES_MAX or not hasattr(inner, "embeddings"):
            return
        order = sorted(self._order, key=lambda text: (self._length(text), text))
        before, kept = self._given, self._kept
        with torch.no_grad():
            whole = self._through(list(_PROBES)).float()
            setattr(holder, name, stack[:layers])
            lower = self._lower(inner, [*_PROBES, *order])
        setattr(holder, name, stack[layers:])
        embeddings = inner.embeddings
        if before is None:
            inner.embeddings = self._given = _given()
        self._kept = lower
        with torch.no_grad():
            apart = float((self._through(list(_PROBES)).float() - whole).abs().max())
        if not apart < _AGREES:  # some other kind of model: its layers cannot be taken apart like this
            logger.warning("the frozen layers are computed at every step: taken apart they are off by %.2g", apart)
            setattr(holder, name, stack)
            inner.embeddings, self._given, self._kept = embeddings, before, kept

    def encode(self, texts: Sequence[str]) -> torch.Tensor:
        """Gives unit vectors that can be learnt from, (texts, dim), in the order of the texts."""
        import torch

        once = sorted(dict.fromkeys(texts), key=lambda text: (self._length(text), text))
        place = {text: number for number, text in enumerate(once)}
        if self._packs:
            vectors = self._packed(once)
        else:
            parts = [once[at : at + _PART] for at in range(0, len(once), _PART)]
            vectors = torch.cat([self._through(part) for part in parts])  # by length, so that less is padding
        return vectors[torch.tensor([place[text] for text in texts], device=self.device)]

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Gives unit vectors as they are now, (texts, dim) float32."""
        import torch

        if not texts:
            return np.zeros((0, self._model.get_embedding_dimension() or 0), np.float32)
        learning = self._model.training
        self._model.eval()
        with torch.no_grad():
            once = sorted(set(texts), key=lambda text: (self._length(text), text))
            parts = [self._through(once[at : at + _CHUNK]).float().cpu() for at in range(0, len(once), _CHUNK)]
        self._model.train(learning)
        place = {text: number for number, text in enumerate(once)}
        found: NDArray[np.float32] = torch.cat(parts).numpy()
        return found[[place[text] for text in texts]]

    def _through(self, texts: Sequence[str]) -> torch.Tensor:
        import torch

        filled = [*texts, *[texts[0]] * (-len(texts) % _ROWS)]
        found: torch.Tensor = self._model(self._features(filled))["sentence_embedding"]
        return torch.nn.functional.normalize(found[: len(texts)].float(), dim=1)

    def _can_pack(self) -> bool:
        """Says whether the model takes texts that share a row, and makes the same vectors of them."""
        import torch

        config: Any = getattr(anatomy(self._model).inner, "config", None)
        kind = getattr(config, "model_type", ""), getattr(config, "position_embedding_type", "absolute")
        if kind != ("bert", "absolute"):  # others count positions in their own way
            return False
        texts = sorted(_PROBES, key=self._length)
        with torch.no_grad():
            try:
                apart = float((self._packed(texts) - self._through(texts)).abs().max())
            except Exception as error:  # whatever a version of the libraries says of the mask
                logger.warning("texts are padded in training: the model does not take them packed (%s)", error)
                return False
        if not apart < _AGREES:
            logger.warning("texts are padded in training: packed they are off by %.2g", apart)
            return False
        return True

    def _packed(self, texts: Sequence[str]) -> torch.Tensor:
        """Does what ``_through`` does, with several texts in a row; texts are sorted by length."""
        import torch

        packing = pack([self._length(text) for text in texts])
        inner = anatomy(self._model).inner
        tokens = [self._tokens[text] for text in texts]
        features = {name: packing.spread([one[name] for one in tokens]) for name in tokens[0]}
        features["attention_mask"] = packing.mask(next(self._model.parameters()).dtype)
        features["position_ids"] = packing.spread([packing.positions()[:, None]]).squeeze(2)
        if self._given is not None:
            self._given.hidden = packing.spread([self._kept[text] for text in texts])
        hidden = inner(**{name: value.to(self.device) for name, value in features.items()}).last_hidden_state
        flat = hidden.reshape(-1, hidden.shape[-1])
        parts = [range(at, min(at + _PART, len(texts))) for at in range(0, len(texts), _PART)]
        return torch.cat([self._pooled(*packing.gathered(flat, part)) for part in parts])

    def _pooled(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Takes (texts, tokens, dim) through what follows the transformer."""
        import torch

        features: dict[str, Any] = {"token_embeddings": hidden, "attention_mask": mask}
        for module in list(self._model)[1:]:
            features = module(features)
        return torch.nn.functional.normalize(features["sentence_embedding"].float(), dim=1)

    def _features(self, texts: Sequence[str]) -> dict[str, torch.Tensor]:
        """Gives the model's input, padded to the longest text; or what the frozen layers made of it."""
        from torch.nn.utils.rnn import pad_sequence

        self._tokenize(texts)
        tokens = [self._tokens[text] for text in texts]
        features = {name: _longer(pad_sequence([one[name] for one in tokens], batch_first=True)) for name in tokens[0]}
        if self._given is not None:
            self._given.hidden = _longer(pad_sequence([self._kept[text] for text in texts], batch_first=True))
        return {name: value.to(self.device) for name, value in features.items()}

    def _lower(self, inner: Any, texts: list[str]) -> dict[str, torch.Tensor]:
        """Runs the lowest layers alone; gives (tokens, dim) for each text."""
        kept: dict[str, torch.Tensor] = {}
        for start in range(0, len(texts), _CHUNK):
            part = texts[start : start + _CHUNK]
            features = self._features(part)
            hidden = inner(**features).last_hidden_state
            for text, row in zip(part, hidden, strict=True):
                kept[text] = row[: self._length(text)].clone()
        return kept

    def _tokenize(self, texts: Iterable[str]) -> None:
        new = [text for text in dict.fromkeys(texts) if text not in self._tokens]
        # Before 5.4 the method has another name.
        preprocess = getattr(self._model, "preprocess", None) or self._model.tokenize
        for start in range(0, len(new), _CHUNK):
            part = new[start : start + _CHUNK]
            features: dict[str, Any] = preprocess([prepare(text) for text in part])
            rows = {name: value for name, value in features.items() if hasattr(value, "shape") and value.ndim == 2}
            for number, text in enumerate(part):
                length = int(rows["attention_mask"][number].sum())
                self._tokens[text] = {name: value[number][:length].cpu() for name, value in rows.items()}

    def _length(self, text: str) -> int:
        if text not in self._tokens:
            self._tokenize([text])
        return len(self._tokens[text]["attention_mask"])


def _longer(rows: torch.Tensor) -> torch.Tensor:
    """Pads (texts, tokens, …) with zeros to a length that comes often."""
    import torch

    absent = -rows.shape[1] % _LENGTH
    return torch.nn.functional.pad(rows, (0, 0) * (rows.ndim - 2) + (0, absent)) if absent else rows


def _given() -> Any:
    """Makes a module that stands where the embeddings stood, and gives what the frozen layers made of a batch."""
    import torch

    class Given(torch.nn.Module):
        hidden: torch.Tensor

        def forward(self, *_positional: object, **_named: object) -> torch.Tensor:
            return self.hidden

    return Given()
