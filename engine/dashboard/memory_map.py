"""The live vector memory on a plane: principal component analysis (Pearson 1901) of the active embedding space.

The vectors are read from the log's own blobs, so that neither a model nor an index is needed. Beyond ``POINTS_MAX``
rows a sample is drawn (``memory_sample``).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from instar.fsm.errors import InstarError
from instar.fsm.events import Span
from instar.fsm.state import AgentState
from instar.fsm.words import Digest, Seq
from instar.store.blobs import BlobStore
from instar.store.reader import LogReader

from .memory_sample import Row, Sample

logger = logging.getLogger("instar.dashboard")

POINTS_MAX = 5_000
TEXT_MAX = 280

Floats = NDArray[np.float64]


class Point(Struct, frozen=True, kw_only=True):
    """One row of memory; ``seq`` is the signal that it stands for, ``embedded`` the SignalEmbedded that holds it."""

    x: float
    y: float
    seq: int
    embedded: int
    kind: str
    unit: str
    text: str
    task_type: str | None
    outcome: str | None


class MemoryMap(Struct, frozen=True, kw_only=True):
    """The map, and what it leaves out.

    ``explained`` is the share of the variance that each axis shows. ``unplaced`` rows have no readable vector in the
    active space.
    """

    space: str | None
    dim: int
    live: int
    unplaced: int
    explained: tuple[float, float]
    points: tuple[Point, ...]


class MemoryMaps:
    """Draws the map of a state, and keeps the last one drawn."""

    def __init__(self, reader: LogReader, blobs: BlobStore) -> None:
        self._reader = reader
        self._sample = Sample(reader, POINTS_MAX)
        self._blobs = blobs
        self._vectors: dict[int, NDArray[np.float32]] = {}
        """By position, of the rows that were drawn last."""
        self._lock = threading.Lock()
        self._last: tuple[tuple[Digest | None, tuple[Span, ...], Seq], MemoryMap] | None = None

    def draw(self, state: AgentState) -> MemoryMap:
        """Gives the map of the memory that is live in a state."""
        with self._lock:
            key = (state.checkpoint, state.memory, self._reader.last_erasure())
            if self._last is None or self._last[0] != key:
                self._last = (key, self._draw(state))
            return self._last[1]

    def _draw(self, state: AgentState) -> MemoryMap:
        sample = self._sample
        if state.checkpoint != sample.space:
            self._vectors.clear()
        rows = sample.draw(state.checkpoint, state.memory, state.head)
        vectors, kept = self._vectors_of(rows)
        places, explained = project(vectors)
        return MemoryMap(
            space=sample.space,
            dim=vectors.shape[1],
            live=sample.live,
            unplaced=sample.live - sample.placed + len(rows) - len(kept),
            explained=explained,
            points=tuple(_point(row, x, y) for row, (x, y) in zip(kept, places.tolist(), strict=True)),
        )

    def _vectors_of(self, rows: Sequence[Row]) -> tuple[Floats, list[Row]]:
        """Gives the vectors, (rows, dim), of the rows whose blob can be read and has the common dimension.

        A blob holds those of a whole cycle or of all memory: what is not drawn of it is let go.
        """
        known = self._vectors
        absent: dict[Digest, list[Row]] = {}
        for row in rows:
            if row.position not in known:
                absent.setdefault(row.blob, []).append(row)
        for wanted in absent.values():
            matrix = self._blob(wanted[0])
            if matrix is not None:
                known.update({row.position: matrix[row.place].copy() for row in wanted if 0 <= row.place < len(matrix)})
        dim = rows[-1].dim if rows else 0
        kept = [row for row in rows if row.position in known and row.dim == dim]
        kept = [row for row in kept if np.isfinite(known[row.position]).all()]
        self._vectors = {row.position: known[row.position] for row in kept}
        vectors = [self._vectors[row.position] for row in kept]
        return (np.asarray(vectors, dtype=np.float64) if vectors else np.zeros((0, dim))), kept

    def _blob(self, row: Row) -> NDArray[np.float32] | None:
        try:
            content = self._blobs.get(row.blob)
        except InstarError as error:
            logger.warning("rows of event %s are left out of the map: %s", row.embedded, error)
            return None
        if row.dim <= 0 or len(content) % (4 * row.dim):
            logger.warning("rows of event %s are left out of the map: its vectors do not fit", row.embedded)
            return None
        return np.frombuffer(content, dtype="<f4").reshape(-1, row.dim)


def project(vectors: Floats) -> tuple[Floats, tuple[float, float]]:
    """Projects vectors on their first two principal axes.

    An axis has no sign of its own: its largest component is made positive, so that equal input gives an equal map.

    Args:
        vectors: (rows, dim).

    Returns:
        Places, (rows, 2), and the share of the variance that each of the two axes shows.
    """
    rows, dim = vectors.shape
    if rows < 2 or dim < 2:
        return np.zeros((rows, 2)), (0.0, 0.0)
    centred = vectors - vectors.mean(axis=0)
    # The right singular vectors of the covariance are those of the rows; (dim, dim) costs a tenth of (rows, dim).
    _, variances, axes = np.linalg.svd(centred.T @ centred, hermitian=True)
    two: Floats = axes[:2]
    largest = np.abs(two).argmax(axis=1)
    two = two * np.where(two[np.arange(2), largest] < 0, -1.0, 1.0)[:, None]
    total = float(variances.sum())
    if total <= 0.0:
        return np.zeros((rows, 2)), (0.0, 0.0)
    return centred @ two.T, (float(variances[0]) / total, float(variances[1]) / total)


def _point(row: Row, x: float, y: float) -> Point:
    item = row.item
    return Point(
        x=round(x, 5),
        y=round(y, 5),
        seq=item.seq,
        embedded=row.embedded,
        kind=item.kind,
        unit=item.unit,
        text=item.text[:TEXT_MAX],
        task_type=item.task_type,
        outcome=item.outcome,
    )
