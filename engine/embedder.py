"""The embedder: texts to unit vectors, by a sentence-transformers model on the CPU.

Where the processor multiplies bfloat16 itself, the model runs in it: 1.5 to 2 times as fast here, cosine to float32
0.9999. That is checked at load on sentences of its own; under ``COSINE_MIN`` the model stays in float32. The vectors
are recorded, so another machine with another precision never has to make them again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from instar.fsm.errors import EffectFailedError
from instar.fsm.words import Digest

from .sentence_model import BATCH, load_sentence_model, multiplies_bfloat16, quiet

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

logger = logging.getLogger("instar.engine")

Precision = Literal["auto", "float32", "bfloat16"]

CHARS_MAX = 20_000
"""A text is cut here before it is cut into tokens: the window (256 tokens) ends far earlier, and 1 MB costs seconds."""
COSINE_MIN = 0.999
_PROBES = (
    "The scraper failed to open the page.",
    "def parse(text: str) -> list[str]:\n    return [line.strip() for line in text.splitlines()]",
    "-    if retries > 3:\n+    if retries >= 3:",
    "Wie öffne ich eine Datei? 日本語の文 🙂",
)


class MiniLMEmbedder:
    """Embeds texts in the space of one checkpoint; the model is loaded when the first text comes.

    A text longer than the model's window is embedded by its beginning.

    Args:
        folder: the checkpoint as a folder.
        space: the checkpoint's name.
        precision: ``auto`` takes bfloat16 where the processor has it and the model bears it.
    """

    def __init__(self, folder: Path, space: Digest, *, precision: Precision = "auto") -> None:
        self.folder = folder
        self.space = space
        self._asked: Precision = precision
        self._precision: Literal["float32", "bfloat16"] = "float32"
        self._model: SentenceTransformer | None = None
        self._dim = 0
        self._lock = threading.RLock()

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

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
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

    def embed_each(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], list[str | None]]:
        """Embeds what can be embedded.

        Returns:
            Vectors, (texts, dim) float32 with unit rows, zero where a text failed; and for each text None or why.

        Raises:
            ConfigError: the model cannot be loaded.
        """
        with self._lock:
            model = self._loaded()
            vectors = np.zeros((len(texts), self._dim), np.float32)
            failures: list[str | None] = [None if isinstance(text, str) else "it is no text" for text in texts]
            places = [number for number, failure in enumerate(failures) if failure is None]
            cut = {number: prepare(texts[number]) for number in places}
            try:
                vectors[places] = _encode(model, [cut[number] for number in places], self._dim)
            except Exception:
                # One text can spoil its whole batch: each alone then shows which.
                for number in places:
                    try:
                        vectors[number] = _encode(model, [cut[number]], self._dim)[0]
                    except Exception as error:
                        failures[number] = f"{type(error).__name__}: {error}"
                        logger.warning("a text of %d characters cannot be embedded: %s", len(cut[number]), error)
            lengths = np.linalg.norm(vectors, axis=1)
            sound = np.isfinite(lengths) & (lengths > 0)
            for number in places:
                if not sound[number] and failures[number] is None:
                    failures[number] = "the model gave no finite vector"
            vectors[sound] /= lengths[sound, None]
            vectors[~sound] = 0.0
            return vectors, failures

    def _loaded(self) -> SentenceTransformer:
        with self._lock:
            if self._model is None:
                model = load_sentence_model(self.folder)
                probes = _encode(model, list(_PROBES), 0)
                self._dim = int(probes.shape[1])
                self._model = self._fastest(model, probes)
                logger.info("loaded %s in %s", self.folder, self._precision)
            return self._model

    def _fastest(self, model: SentenceTransformer, probes: NDArray[np.float32]) -> SentenceTransformer:
        if self._asked == "float32" or (self._asked == "auto" and not multiplies_bfloat16()):
            return model
        small: SentenceTransformer = model.bfloat16()
        cosine = float((_encode(small, list(_PROBES), 0) * probes).sum(axis=1).min())
        if self._asked == "auto" and not cosine >= COSINE_MIN:
            logger.warning("%s stays in float32: in bfloat16 its cosine falls to %.4f", self.folder, cosine)
            return load_sentence_model(self.folder)  # the first was rounded in place
        self._precision = "bfloat16"
        return small


def prepare(text: str) -> str:
    """Makes a text fit for any tokenizer: without leading blanks, cut, and valid Unicode."""
    return text.lstrip()[:CHARS_MAX].encode("utf-8", "replace").decode("utf-8")


def _encode(model: SentenceTransformer, texts: list[str], dim: int) -> NDArray[np.float32]:
    """Gives unit rows, (texts, dim); the library sorts by length itself, so a batch holds little padding."""
    if not texts:
        return np.zeros((0, dim), np.float32)
    with quiet():
        found = model.encode(
            texts, batch_size=BATCH, show_progress_bar=False, convert_to_numpy=True, normalize_embeddings=True
        )
    rows: NDArray[np.float32] = np.array(found, dtype=np.float32)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    rows /= np.where(lengths > 0, lengths, 1)
    return rows
