"""The embedder: texts to unit vectors, by a sentence-transformers model on the CPU.

Texts go through the model sorted by their number of tokens, about a thousand tokens at a time: little padding, and what
a layer works on stays in the processor's cache. A batch holds texts of one padded length, which depends on the text
alone: so does its vector then, to the bit, and it may be kept for the next time.

Where the processor multiplies bfloat16 itself, the model runs in it; OpenVINO or ONNX Runtime run it in torch's place
where that is asked for. Whatever is chosen is compared at load with the library's own ``encode`` in float32, on
sentences of its own; what falls under ``COSINE_MIN`` is not used. The vectors are recorded, so another machine with
another precision never has to make them again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from instar.fsm.errors import EffectFailedError
from instar.fsm.words import Digest

from .model_runs import Backend, Run, Tokens, onnx_run, openvino_run, torch_run
from .sentence_model import BATCH, load_sentence_model, multiplies_bfloat16, quiet
from .vector_cache import VectorCache, key_of

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

logger = logging.getLogger("instar.engine")

Precision = Literal["auto", "float32", "bfloat16"]
Rows = NDArray[np.float32]

CHARS_MAX = 20_000
"""A text is cut here before it is cut into tokens: the window (256 tokens) ends far earlier, and 1 MB costs seconds."""
COSINE_MIN = 0.999
TOKENS_MAX = 1024
"""Tokens of a batch, padding and all; measured on two cores: 512 and 2048 are slower, as is a fixed number of texts."""
_PROBES = (
    "The scraper failed to open the page.",
    "def parse(text: str) -> list[str]:\n    return [line.strip() for line in text.splitlines()]",
    "-    if retries > 3:\n+    if retries >= 3:",
    "Wie öffne ich eine Datei? 日本語の文 🙂",
)


class MiniLMEmbedder:
    """Embeds texts in the space of one checkpoint; the model is loaded when the first text comes.

    A text longer than the model's window is embedded by its beginning. Safe to share between threads.

    Args:
        folder: the checkpoint as a folder.
        space: the checkpoint's name.
        precision: ``auto`` takes bfloat16 where the processor has it and the model bears it.
        backend: what runs the model; torch where that is not installed or does not agree with it.
        cache: where vectors are kept for the next time; by default nowhere.
    """

    def __init__(
        self,
        folder: Path,
        space: Digest,
        *,
        precision: Precision = "auto",
        backend: Backend = "torch",
        cache: VectorCache | None = None,
    ) -> None:
        self.folder = folder
        self.space = space
        self._asked: Precision = precision
        self._asked_backend: Backend = backend
        self._precision: Literal["float32", "bfloat16"] = "float32"
        self._backend: Backend = "torch"
        self._cache = cache
        self._model: SentenceTransformer | None = None
        self._run: Run | None = None
        self._dim = 0
        self._lock = threading.Lock()

    @property
    def dim(self) -> int:
        """Length of a vector; loads the model."""
        self._loaded()
        return self._dim

    @property
    def precision(self) -> str:
        """What the model computes in, ``float32`` or ``bfloat16``; loads the model."""
        self._loaded()
        return self._precision

    @property
    def backend(self) -> Backend:
        """What runs the model; loads it."""
        self._loaded()
        return self._backend

    def embed(self, texts: Sequence[str]) -> Rows:
        """Returns unit rows, (texts, dim) float32.

        Raises:
            EffectFailedError: a text cannot be embedded; ``embed_each`` goes on without it.
            ConfigError: the model cannot be loaded.
        """
        vectors, failures = self.embed_each(texts)
        for number, reason in enumerate(failures):
            if reason is not None:
                raise EffectFailedError(f"text {number} of {len(texts)} cannot be embedded: {reason}")
        return vectors

    def embed_each(self, texts: Sequence[str]) -> tuple[Rows, list[str | None]]:
        """Embeds what can be embedded.

        Returns:
            Vectors, (texts, dim) float32 with unit rows, zero where a text failed; and for each text None or why.

        Raises:
            ConfigError: the model cannot be loaded.
        """
        self._loaded()
        vectors = np.zeros((len(texts), self._dim), np.float32)
        failures: list[str | None] = [None if isinstance(text, str) else "it is no text" for text in texts]
        places: dict[str, list[int]] = {}
        for number, failure in enumerate(failures):
            if failure is None:
                places.setdefault(prepare(texts[number]), []).append(number)
        fresh = self._known(places, vectors)
        made, reasons = self._embed_distinct(fresh)
        for text, row, reason in zip(fresh, made, reasons, strict=True):
            for number in places[text]:
                vectors[number], failures[number] = row, reason
        if self._cache is not None:
            sound = [number for number, reason in enumerate(reasons) if reason is None]
            way = self.way
            self._cache.put([key_of(way, fresh[number]) for number in sound], made[sound])
        return vectors, failures

    @property
    def way(self) -> str:
        """Names what a vector depends on beside its text; loads the model."""
        self._loaded()
        return f"{self.space} {self._backend} {self._precision}"

    def _known(self, places: dict[str, list[int]], vectors: Rows) -> list[str]:
        """Fills in what the cache holds; gives the texts that it does not hold."""
        if self._cache is None:
            return list(places)
        fresh: list[str] = []
        way = self.way
        for text, numbers in places.items():
            row = self._cache.get(key_of(way, text))
            if row is None:
                fresh.append(text)
            else:
                vectors[numbers] = row
        return fresh

    def _embed_distinct(self, texts: list[str]) -> tuple[Rows, list[str | None]]:
        reasons: list[str | None] = [None] * len(texts)
        try:
            rows = self._encode(texts)
        except Exception:
            # One text can spoil its whole batch: each alone then shows which.
            rows = np.zeros((len(texts), self._dim), np.float32)
            for number, text in enumerate(texts):
                try:
                    rows[number] = self._encode([text])[0]
                except Exception as error:
                    reasons[number] = f"{type(error).__name__}: {error}"
                    logger.warning("a text of %d characters cannot be embedded: %s", len(text), error)
        lengths = np.linalg.norm(rows, axis=1)
        sound = np.isfinite(lengths) & (lengths > 0)
        for number in np.flatnonzero(~sound).tolist():
            reasons[number] = reasons[number] or "the model gave no finite vector"
        rows[sound] /= lengths[sound, None]
        rows[~sound] = 0.0
        return rows, reasons

    def _encode(self, texts: list[str]) -> Rows:
        """Gives rows, (texts, dim), by the way that was chosen at load."""
        assert self._model is not None
        if self._run is None:
            return _library_rows(self._model, texts, self._dim)
        return _run_rows(self._model, self._run, texts, self._dim)

    def _loaded(self) -> None:
        with self._lock:
            if self._model is None:
                model = load_sentence_model(self.folder)
                probes = _library_rows(model, list(_PROBES), 0)
                self._dim = int(probes.shape[1])
                self._model = self._choose(model, probes)
                if self._cache is not None and not self._is_steady():
                    logger.info("%s: no vector is kept, since it depends on what is embedded beside it", self.folder)
                    self._cache = None
                logger.info("loaded %s: %s in %s", self.folder, self._backend, self._precision)

    def _is_steady(self) -> bool:
        """Says whether a text's vector is the same to the bit alone and beside others."""
        texts = [*_PROBES, *(probe + probe[:40] for probe in _PROBES)]
        together = self._encode(texts)
        return all(np.array_equal(self._encode([text])[0], row) for text, row in zip(texts, together, strict=True))

    def _choose(self, model: SentenceTransformer, probes: Rows) -> SentenceTransformer:
        """Takes the first way that agrees with ``encode`` in float32: what was asked for, torch, the library itself."""
        small = self._asked == "bfloat16" or (self._asked == "auto" and multiplies_bfloat16())
        if self._asked_backend != "torch" and self._takes_backend(model, probes, small):
            return model
        if small:
            rounded: SentenceTransformer = model.bfloat16()
            found = _agreement(rounded, torch_run(rounded), probes)
            if found >= COSINE_MIN or self._asked == "bfloat16":
                self._precision, self._run = "bfloat16", torch_run(rounded)
                return rounded
            logger.warning("%s stays in float32: in bfloat16 its cosine falls to %.4f", self.folder, found)
            model = load_sentence_model(self.folder)  # the first was rounded in place
        if _agreement(model, torch_run(model), probes) >= COSINE_MIN:
            self._run = torch_run(model)
        return model

    def _takes_backend(self, model: SentenceTransformer, probes: Rows, small: bool) -> bool:
        name = self._asked_backend
        try:
            run = openvino_run(model, small=small) if name == "openvino" else onnx_run(model)
            found = _agreement(model, run, probes)
        except Exception as error:  # whatever a converter raises for a model that it does not know
            logger.warning("%s is run by torch: %s cannot take it (%s)", self.folder, name, error)
            return False
        if not found >= COSINE_MIN:
            logger.warning("%s is run by torch: by %s its cosine falls to %.4f", self.folder, name, found)
            return False
        self._backend, self._run = name, run
        self._precision = "bfloat16" if small and name == "openvino" else "float32"
        return True


def prepare(text: str) -> str:
    """Makes a text fit for any tokenizer: without leading blanks, cut, and valid Unicode."""
    return text.lstrip()[:CHARS_MAX].encode("utf-8", "replace").decode("utf-8")


def _agreement(model: SentenceTransformer, run: Run, probes: Rows) -> float:
    """Gives the lowest cosine to what ``encode`` gave; −1 where a way does not work."""
    try:
        rows = _run_rows(model, run, list(_PROBES), probes.shape[1])
    except Exception as error:
        logger.debug("a way to run the model does not work: %s", error)
        return -1.0
    cosines = (rows * probes).sum(axis=1) / np.linalg.norm(rows, axis=1)
    return float(cosines.min()) if np.isfinite(cosines).all() else -1.0


def _run_rows(model: SentenceTransformer, run: Run, texts: list[str], dim: int) -> Rows:
    """Gives rows, (texts, dim), in batches of texts of about the same length."""
    rows = np.zeros((len(texts), dim), np.float32)
    if texts:
        found = model.tokenizer(texts, truncation=True, max_length=model.max_seq_length, verbose=False)["input_ids"]
        padding = model.tokenizer.pad_token_id or 0
        for length, places in _batches([len(one) for one in found]):
            tokens, mask = _padded([found[place] for place in places], length, padding)
            rows[places] = run(tokens, mask)
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


def _library_rows(model: SentenceTransformer, texts: list[str], dim: int) -> Rows:
    """Gives unit rows, (texts, dim), by the library's own ``encode``."""
    if not texts:
        return np.zeros((0, dim), np.float32)
    with quiet():
        found = model.encode(
            texts, batch_size=BATCH, show_progress_bar=False, convert_to_numpy=True, normalize_embeddings=True
        )
    rows: Rows = np.array(found, dtype=np.float32)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    rows /= np.where(lengths > 0, lengths, 1)
    return rows
