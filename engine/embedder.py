"""The embedder: texts to unit vectors, by a sentence-transformers model on the CPU.

How the model is run is chosen when it is loaded (``embedding/way.py``). A text's vector does not depend on what is
embedded beside it, so it may be kept for the next time. The vectors are recorded, so another machine with another
precision never has to make them again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from instar.fsm.errors import EffectFailedError
from instar.fsm.words import Digest

from .embedding.runs import Backend
from .embedding.vector_cache import VectorCache, key_of
from .embedding.way import COSINE_MIN, Precision, Rows, Way, choose_way

__all__ = ["CHARS_MAX", "COSINE_MIN", "MiniLMEmbedder", "Precision", "prepare"]

logger = logging.getLogger("instar.engine")

CHARS_MAX = 20_000
"""A text is cut here before it is cut into tokens: the window (256 tokens) ends far earlier, and 1 MB costs seconds."""


class MiniLMEmbedder:
    """Embeds texts in the space of one checkpoint; the model is loaded when the first text comes.

    A text longer than the model's window is embedded by its beginning. Safe to share between threads.

    Args:
        folder: the checkpoint as a folder.
        space: the checkpoint's name.
        precision: ``auto`` takes bfloat16 where the processor has it and the model bears it.
        backend: what runs the model; torch where that is not installed or does not agree with it.
        cache: where vectors are kept for the next time; by default nowhere.
        kept: the file in which how the model is run is kept for the next process; by default nowhere.
    """

    def __init__(
        self,
        folder: Path,
        space: Digest,
        *,
        precision: Precision = "auto",
        backend: Backend = "torch",
        cache: VectorCache | None = None,
        kept: Path | None = None,
    ) -> None:
        self.folder = folder
        self.space = space
        self._asked: Precision = precision
        self._asked_backend: Backend = backend
        self._way: Way | None = None
        self._cache, self._kept = cache, kept
        self._lock = threading.Lock()

    @property
    def dim(self) -> int:
        """Length of a vector; loads the model."""
        return self._loaded().dim

    @property
    def precision(self) -> str:
        """What the model computes in, ``float32`` or ``bfloat16``; loads the model."""
        return self._loaded().precision

    @property
    def backend(self) -> Backend:
        """What runs the model; loads it."""
        return self._loaded().backend

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
        vectors = np.zeros((len(texts), self.dim), np.float32)
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
        return f"{self.space} {self.backend} {self.precision}"

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
            rows = np.zeros((len(texts), self.dim), np.float32)
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
        """Gives vectors of any length, (texts, dim)."""
        return self._loaded().rows(texts)

    def _loaded(self) -> Way:
        with self._lock:
            if self._way is None:
                way = choose_way(self.folder, self._asked, self._asked_backend, self._kept)
                if self._cache is not None and not way.is_steady():
                    logger.info("%s: no vector is kept, since it depends on what is embedded beside it", self.folder)
                    self._cache = None
                logger.info("loaded %s: %s in %s", self.folder, way.backend, way.precision)
                self._way = way
            return self._way


def prepare(text: str) -> str:
    """Makes a text fit for any tokenizer: without leading blanks, cut, and valid Unicode."""
    return text.lstrip()[:CHARS_MAX].encode("utf-8", "replace").decode("utf-8")
