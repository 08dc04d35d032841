"""Whether a model gives vectors that mean something, asked before a workspace is set up with it for good.

The libraries load a folder that lacks a part without a word: missing weights are drawn anew in each process, a missing
tokenizer makes all texts one.
"""

from __future__ import annotations

import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instar.engine.own_python import own_python
from instar.fsm.errors import ConfigError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_PROBES = ("read a file", "sell a boat", "find the sun")
"""Of as many words and letters each, so that they differ by their words alone."""
_SAME = 0.9999
_POOLER = "pooler."
"""Weights that no sentence model asks: many are saved without them."""


def refuse_unsound(folder: Path) -> None:
    """Loads a model and embeds a few texts; in a process of its own where this one has not loaded torch.

    Raises:
        ConfigError: it cannot be loaded, lacks weights, or its vectors are none or all alike.
    """
    if "torch" in sys.modules:
        fault = fault_of(folder)
    else:
        command = own_python("-c", "from instar.engine.embedding.soundness import tell; tell()", str(folder))
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        fault = done.stdout.strip() if done.returncode == 0 else done.stderr.strip()[-1000:] or "its process was killed"
    if fault:
        raise ConfigError(f"{fault}. Nothing was set up: give a model that sentence-transformers saved whole.")


def tell() -> None:
    """Prints what is wrong with the model that the command line names; nothing if it is sound."""
    print(fault_of(Path(sys.argv[1])))


def fault_of(folder: Path) -> str:
    """Says what is wrong with a model; nothing if it is sound."""
    import numpy as np

    from .sentence_model import load_sentence_model, quiet

    try:
        model = load_sentence_model(folder)
    except ConfigError as error:
        return str(error).rstrip(".")
    if missing := _missing(model):
        return f"the model in {folder} lacks weights, which would be drawn at random: {', '.join(missing[:3])}"
    with quiet():
        vectors = np.asarray(model.encode(list(_PROBES), normalize_embeddings=True, show_progress_bar=False))
    lengths = np.linalg.norm(vectors, axis=1)
    if not (np.isfinite(lengths) & (lengths > 0.5)).all():
        return f"the model in {folder} gives no finite vector for a text"
    if all(vectors[one] @ vectors[other] > _SAME for one, other in combinations(range(len(_PROBES)), 2)):
        return f"the model in {folder} gives all texts one vector: its tokenizer, or weights of it, are missing"
    return ""


def _missing(model: SentenceTransformer) -> list[str]:
    """Names the parameters of the transformer that no file gave, as the library tells of them."""
    from .sentence_model import quiet

    inner: Any = getattr(model[0], "auto_model", None)
    if inner is None:
        return []
    with quiet():
        _, told = type(inner).from_pretrained(
            inner.name_or_path, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    return sorted(name for name in told["missing_keys"] if not name.startswith(_POOLER))
