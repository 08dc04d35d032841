"""Which way a model is run: what was asked for, if it agrees with the library's own ``encode`` in float32.

Where the processor multiplies bfloat16 itself, the model runs in it. A plain BERT such as MiniLM runs without padding
(``packed_bert.py``), any other as its library runs it; OpenVINO or ONNX Runtime run it in torch's place where that is
asked for. Whatever is chosen is compared at load, on sentences of its own; what falls under ``COSINE_MIN`` is not used.
A plain BERT that was compared once is run without its library from then on (``kept_way.py``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from instar.engine.environment import libraries
from instar.engine.version import VERSION

from .foreign import foreign_rows
from .kept_way import KeptWay, read_kept, write_kept
from .runs import PACKAGES, Backend, RunTexts, onnx_run, openvino_run, torch_run
from .sentence_model import BATCH, load_sentence_model, multiplies_bfloat16, quiet
from .token_batches import cutting, run_rows, unpadded_rows

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

logger = logging.getLogger("instar.engine")

Precision = Literal["auto", "float32", "bfloat16"]
Rows = NDArray[np.float32]

COSINE_MIN = 0.999
TOKENIZER = "tokenizer.json"
PROBES = (
    "The scraper failed to open the page.",
    "def parse(text: str) -> list[str]:\n    return [line.strip() for line in text.splitlines()]",
    "-    if retries > 3:\n+    if retries >= 3:",
    "Wie öffne ich eine Datei? 日本語の文 🙂",
)


class Way(Struct, frozen=True, kw_only=True):
    """A model, and how it is run."""

    embed: Callable[[list[str]], Rows]
    dim: int
    backend: Backend = "torch"
    precision: Literal["float32", "bfloat16"] = "float32"

    def rows(self, texts: list[str]) -> Rows:
        """Gives vectors of any length, (texts, dim)."""
        return self.embed(texts)

    def is_steady(self) -> bool:
        """Says whether a text's vector is the same to the bit alone and beside others."""
        texts = [*PROBES, *(probe + probe[:40] for probe in PROBES)]
        together = self.rows(texts)
        return all(np.array_equal(self.rows([text])[0], row) for text, row in zip(texts, together, strict=True))


def choose_way(folder: Path, asked: Precision, backend: Backend, kept: Path | None = None) -> Way:
    """Takes the first way that agrees with ``encode`` in float32: what was asked for, torch, the library itself.

    Args:
        folder: the model.
        asked: what it is to multiply in.
        backend: what is to run it.
        kept: the file in which a way that needs no library is kept for the next process.

    Raises:
        ConfigError: the model cannot be loaded.
    """
    small = asked == "bfloat16" or (asked == "auto" and multiplies_bfloat16())
    found_with = _found_with(asked, small)
    if kept is not None and backend == "torch" and (way := _kept_way(folder, read_kept(kept, found_with))):
        return way
    model = load_sentence_model(folder)
    probes = _library_rows(model, list(PROBES), 0)
    dim = int(probes.shape[1])
    other = _other_way(folder, model, probes, backend, small) if backend != "torch" else None
    if other is not None:
        return other
    unpadded = _unpadded_way(model, probes, small=True) if small else None
    if small and unpadded is None:
        rounded: SentenceTransformer = model.bfloat16()
        way = Way(embed=_padded(rounded, dim), dim=dim, precision="bfloat16")
        found = _agreement(way, probes)
        if found >= COSINE_MIN or asked == "bfloat16":
            return way
        logger.warning("%s stays in float32: in bfloat16 its cosine falls to %.4f", folder, found)
        model = load_sentence_model(folder)  # the first was rounded in place
    unpadded = unpadded or _unpadded_way(model, probes, small=False)
    if unpadded is not None:
        if kept is not None and backend == "torch":
            _keep(kept, folder, found_with, model, unpadded, probes)
        return unpadded
    way = Way(embed=_padded(model, dim), dim=dim)
    if _agreement(way, probes) >= COSINE_MIN:
        return way
    return Way(embed=partial(_library_rows, model, dim=dim), dim=dim)


def _found_with(asked: Precision, small: bool) -> str:
    return f"{VERSION}, {asked}, {'bfloat16' if small else 'float32'}, {sorted(libraries().items())}"


def _kept_way(folder: Path, kept: KeptWay | None) -> Way | None:
    """Runs a model as it was found that it can be, if that still gives what its library gave."""
    if kept is None:
        return None
    from .packed_bert import packed_run_of

    try:
        cut = cutting((folder / TOKENIZER).read_text(encoding="utf-8"), kept.tokens_max)
        run = packed_run_of(folder, kept.shape, small=kept.small)
        way = Way(
            embed=partial(unpadded_rows, cut, run, dim=kept.dim),
            dim=kept.dim,
            precision="bfloat16" if kept.small else "float32",
        )
        agrees = _agreement(way, kept.rows()) >= COSINE_MIN
    except Exception as error:  # whatever torch or a tokenizer raises for what is not as it was
        logger.info("the model is loaded by its library again: %s", error)
        return None
    return way if agrees else None


def _keep(path: Path, folder: Path, found_with: str, model: SentenceTransformer, way: Way, probes: Rows) -> None:
    """Keeps a way for the next process, if it is the same to the bit without the library."""
    from .packed_bert import shape_of

    try:
        kept = KeptWay(
            found_with=found_with,
            shape=shape_of(model),
            tokens_max=int(model.max_seq_length or 0),
            small=way.precision == "bfloat16",
            dim=way.dim,
            encoded=probes.astype("<f4").tobytes(),
        )
        again = _kept_way(folder, kept)
        texts = list(PROBES)
        if again is not None and np.array_equal(again.rows(texts), way.rows(texts)):
            write_kept(path, kept)
    except Exception as error:  # whatever the libraries raise: the way itself is sound
        logger.info("how %s is run is not kept: %s", folder, error)


def _padded(model: SentenceTransformer, dim: int) -> Callable[[list[str]], Rows]:
    return partial(run_rows, model, torch_run(model), dim=dim, parted=True)


def packed_run(model: SentenceTransformer, *, small: bool) -> RunTexts:
    """Gives ``packed_bert``'s way, which loads torch."""
    from . import packed_bert

    return packed_bert.packed_run(model, small=small)


def _unpadded_way(model: SentenceTransformer, probes: Rows, *, small: bool) -> Way | None:
    dim = int(probes.shape[1])
    try:
        cut = cutting(model.tokenizer.backend_tokenizer.to_str(), model.max_seq_length)
        embed = partial(unpadded_rows, cut, packed_run(model, small=small), dim=dim)
    except Exception as error:  # another architecture, another tokenizer, or a torch that has other operators
        logger.info("the model is run as its library runs it: %s", error)
        return None
    way = Way(embed=embed, dim=dim, precision="bfloat16" if small else "float32")
    found = _agreement(way, probes)
    if not found >= COSINE_MIN:
        logger.warning("the model is run as its library runs it: without padding its cosine falls to %.4f", found)
        return None
    return way


def _other_way(folder: Path, model: SentenceTransformer, probes: Rows, name: Backend, small: bool) -> Way | None:
    try:
        dim = int(probes.shape[1])
        if name in PACKAGES:
            run = openvino_run(model, small=small) if name == "openvino" else onnx_run(model)
            embed: Callable[[list[str]], Rows] = partial(run_rows, model, run, dim=dim)
        else:
            name, embed = foreign_rows(name, folder, dim)
        way = Way(
            embed=embed,
            dim=dim,
            backend=name,
            precision="bfloat16" if small and name == "openvino" else "float32",
        )
        found = _agreement(way, probes)
    except Exception as error:  # whatever a converter raises for a model that it does not know
        logger.warning("%s is run by torch: %s cannot take it (%s)", folder, name, error)
        return None
    if not found >= COSINE_MIN:
        logger.warning("%s is run by torch: by %s its cosine falls to %.4f", folder, name, found)
        return None
    return way


def _agreement(way: Way, probes: Rows) -> float:
    """Gives the lowest cosine to what ``encode`` gave; −1 where a way does not work."""
    try:
        rows = way.rows(list(PROBES))
    except Exception as error:
        logger.debug("a way to run the model does not work: %s", error)
        return -1.0
    cosines = (rows * probes).sum(axis=1) / np.linalg.norm(rows, axis=1)
    return float(cosines.min()) if np.isfinite(cosines).all() else -1.0


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
