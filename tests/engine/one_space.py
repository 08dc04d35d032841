"""Whether memory is of one embedding space: asked of the log's texts and of the libraries' own ``encode``."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numpy.typing import NDArray

from instar.engine.memory.rows import RowName, live_rows
from instar.engine.runtime import Runtime
from instar.fsm.events import SignalEmbedded

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

AGREES = 0.999
"""The cosine of a vector with the one that is right; that of another space is far below."""


def check_memory(runtime: Runtime, folder: Path) -> int:
    """Makes sure that a search finds every live row, by the vector that the active checkpoint makes of its text.

    Args:
        runtime: the workspace.
        folder: the active checkpoint as it came from outside the workspace.

    Returns:
        The number of rows.
    """
    state, memory = runtime.state, runtime.memory
    assert state.checkpoint is not None
    memory.catch_up(runtime.reader, runtime.blobs)
    rows, vectors = memory.vectors(state.checkpoint, within=state.memory)
    texts = live_texts(runtime)
    assert {(row.seq, row.item) for row in rows} == set(texts)
    for row, vector in zip(rows, vectors, strict=True):
        agrees = float(vector @ right_vector(folder, texts[row.seq, row.item]))
        assert agrees > AGREES, f"row {row.seq}.{row.item} has a vector of another space: cosine {agrees}"
    return len(rows)


def live_texts(runtime: Runtime) -> dict[RowName, str]:
    """Reads the text of every live row."""
    found: dict[RowName, str] = {}
    for seq, item in live_rows(runtime.reader, runtime.state.memory):
        event = runtime.reader.get(seq).event
        assert isinstance(event, SignalEmbedded)
        assert event.texts is not None
        stored = msgspec.json.decode(runtime.blobs.get(event.texts), type=list[str])
        place = event.items[item].row
        assert place is not None
        found[seq, item] = stored[place]
    return found


@cache
def right_vector(folder: Path, text: str) -> NDArray[np.float32]:
    """Gives the vector that a model makes of a text: (dim,) float32 of length one."""
    found = _model(folder).encode([text], normalize_embeddings=True, show_progress_bar=False)
    return np.asarray(found[0], np.float32)


@cache
def _model(folder: Path) -> SentenceTransformer:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu", local_files_only=True)
