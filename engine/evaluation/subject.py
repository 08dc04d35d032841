"""Which checkpoint is measured: one of a workspace's log, or weights that lie anywhere else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from instar.engine.embedding.checkpoint_names import checkpoint_called
from instar.engine.memory.calibration import TEMPERATURE
from instar.fsm.errors import InputRefused
from instar.fsm.words import Digest

if TYPE_CHECKING:
    from instar.engine.embedder import MiniLMEmbedder
    from instar.engine.runtime import Runtime

_ELSEWHERE = Digest("0" * 64)


class Subject(Struct, frozen=True, kw_only=True):
    """A checkpoint that can embed. ``temperature`` is the recorded one, or what holds where none was fitted."""

    name: str
    temperature: float
    calibrated: bool
    embedder: MiniLMEmbedder

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embeds texts: float32 of shape (texts, dim), unit rows.

        Raises:
            InputRefused: a text cannot be embedded.
        """
        vectors, failures = self.embedder.embed_each(list(texts))
        for text, failure in zip(texts, failures, strict=True):
            if failure is not None:
                raise InputRefused(f"the text {text[:60]!r} cannot be embedded: {failure}")
        return vectors


def of_log(runtime: Runtime, name: str) -> Subject:
    """Finds a checkpoint of a log by ``active``, ``base``, or the beginning of its digest (``checkpoint:`` may lead).

    Raises:
        ConfigError: it names none, or several.
    """
    found = checkpoint_called(runtime.reader, runtime.state, name)
    temperature = runtime.state.calibrations.get(found)
    return Subject(
        name=found,
        temperature=TEMPERATURE if temperature is None else temperature,
        calibrated=temperature is not None,
        embedder=runtime.models.embedder(found),
    )


def of_weights(name: str) -> Subject:
    """Takes weights by a folder, a package of weights or a hub name; nothing was fitted for them.

    Raises:
        ConfigError: there are none, or a module's are a pickle alone; nothing was loaded.
    """
    from instar.engine.embedder import MiniLMEmbedder
    from instar.store.checkpoints import locate_model, model_files

    folder = locate_model(name)
    model_files(folder)  # refuses, before anything is loaded, what could not become a checkpoint either
    return Subject(
        name=str(Path(name)) if folder == Path(name) else name,
        temperature=TEMPERATURE,
        calibrated=False,
        embedder=MiniLMEmbedder(folder, _ELSEWHERE),
    )
