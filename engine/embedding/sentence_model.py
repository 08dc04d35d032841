"""Loading a sentence-transformers model: from a folder alone, without network, without noise on the terminal."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instar.engine.workspace import CHECKPOINTS, HOME
from instar.fsm.errors import ConfigError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

BATCH = 32
"""Texts embedded at once; measured on two cores: 16 is as fast in float32, slower in bfloat16."""


def load_sentence_model(folder: Path) -> SentenceTransformer:
    """Loads a model for the CPU, in float32.

    Raises:
        ConfigError: the libraries are not installed, or the folder holds no model that they can load.
    """
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise ConfigError(
            f"sentence-transformers cannot be loaded ({error}): run `pip install sentence-transformers torch`"
        ) from error
    if not folder.is_dir():
        raise ConfigError(f"there is no model folder at {folder}: materialize the checkpoint first")
    try:
        with quiet():
            return SentenceTransformer(
                str(folder), device="cpu", local_files_only=True, model_kwargs={"use_safetensors": True}
            ).float()
    except Exception as error:  # whatever the libraries raise for a damaged or foreign folder
        known = folder.parent.parts[-2:] == (HOME, CHECKPOINTS)
        advice = "Check it with `instar verify`." if known else "Give a folder that sentence-transformers can load."
        raise ConfigError(f"the model in {folder} cannot be loaded: {error}. {advice}") from error


def multiplies_bfloat16() -> bool:
    """Says whether the processor has instructions for bfloat16, and torch uses them; else it is emulated and slower."""
    import torch

    known: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    used: Any = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)  # no, where ONEDNN_MAX_CPU_ISA forbids it
    return bool(known.get("amx_bf16") or known.get("avx512_bf16")) and (used is None or bool(used()))


@contextmanager
def quiet() -> Iterator[None]:
    """Silences what the model libraries print while they work, and puts everything back as it was."""
    from transformers.utils import logging as transformers_logging

    noise: Any = transformers_logging  # not annotated by the library

    library = logging.getLogger("sentence_transformers")
    level, verbosity, bars = library.level, noise.get_verbosity(), noise.is_progress_bar_enabled()
    library.setLevel(logging.ERROR)
    noise.set_verbosity_error()
    noise.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        library.setLevel(level)
        noise.set_verbosity(verbosity)
        if bars:
            noise.enable_progress_bar()
