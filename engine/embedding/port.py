"""The embedder's port: what runs a checkpoint in torch's place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from numpy.typing import ArrayLike


class Embedder(Protocol):
    """Runs checkpoints on other hardware, or in another process; an extension of the group ``instar.embedders``."""

    @property
    def name(self) -> str:
        """What the log calls this embedder."""

    def load(self, folder: Path) -> Callable[[list[str]], ArrayLike]:
        """Loads the checkpoint in a folder; returns what gives the vectors of texts, (texts, dim), of any length.

        They are compared with what the library's own ``encode`` gives in float32, and may be asked for by several
        threads. A text's vector depends on the text alone.
        """
