"""An embedder of another package: another way to run a checkpoint, compared with torch's as every way is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from instar.engine.extension_calls import asked
from instar.engine.extensions import EMBEDDERS, load_extension
from instar.fsm.errors import ExtensionFailed

from .port import Embedder


def foreign_rows(name: str, folder: Path, dim: int) -> tuple[str, Callable[[list[str]], NDArray[np.float32]]]:
    """Has an extension load a checkpoint.

    Args:
        name: an entry point, or ``module:attribute``.
        folder: the checkpoint.
        dim: length of its vectors.

    Returns:
        What it calls itself; and what embeds texts, (texts, dim) of any length, or raises ``ExtensionFailed``.

    Raises:
        ConfigError: it cannot be loaded.
        ExtensionFailed: it cannot load the checkpoint.
    """
    extension: Embedder = load_extension(EMBEDDERS, name)
    who = f"the embedder {extension.name}"
    embed = asked(who, lambda: extension.load(folder))

    def rows(texts: list[str]) -> NDArray[np.float32]:
        if not texts:
            return np.zeros((0, dim), np.float32)
        found = asked(who, lambda: np.array(embed(list(texts)), np.float32))
        if found.shape != (len(texts), dim):
            raise ExtensionFailed(f"{who} gave an array of shape {found.shape} for {len(texts)} texts of {dim} numbers")
        return found

    return extension.name, rows
