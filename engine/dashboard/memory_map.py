"""The live vector memory on a plane: principal component analysis (Pearson 1901) of the active embedding space.

The vectors are read from the log's own blobs, so that neither a model nor an index is needed. Beyond ``POINTS_MAX``
rows a sample is drawn by the rows' hashed positions: the same log gives the same sample, and a row in it leaves it only
for one that came later.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from instar.fsm.errors import InstarError
from instar.fsm.events import EmbeddedItem, MemoryReembedded, SignalEmbedded, Span
from instar.fsm.state import AgentState
from instar.fsm.words import Digest
from instar.store.blobs import BlobStore
from instar.store.reader import LogReader

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


class _Row(Struct, frozen=True):
    """A live row, and where its vector is: a row of a blob."""

    embedded: int
    index: int
    item: EmbeddedItem
    blob: Digest
    place: int
    dim: int


class MemoryMaps:
    """Draws the map of a state, and keeps the last one drawn."""

    def __init__(self, reader: LogReader, blobs: BlobStore) -> None:
        self._reader = reader
        self._blobs = blobs
        self._lock = threading.Lock()
        self._last: tuple[tuple[Digest | None, tuple[Span, ...]], MemoryMap] | None = None

    def draw(self, state: AgentState) -> MemoryMap:
        """Gives the map of the memory that is live in a state."""
        key = (state.checkpoint, state.memory)
        with self._lock:
            if self._last is None or self._last[0] != key:
                self._last = (key, self._draw(state))
            return self._last[1]

    def _draw(self, state: AgentState) -> MemoryMap:
        events = list(self._live_events(state.memory, state.head))
        space = state.checkpoint or (events[-1][1].space if events else None)
        live = sum(item.row is not None for _, event in events for item in event.items)
        rows = list(self._placed(events, space, state.head))
        vectors, kept = self._vectors(_sample(rows, POINTS_MAX))
        places, explained = project(vectors)
        return MemoryMap(
            space=space,
            dim=vectors.shape[1],
            live=live,
            unplaced=live - len(rows) + min(len(rows), POINTS_MAX) - len(kept),
            explained=explained,
            points=tuple(_point(row, x, y) for row, (x, y) in zip(kept, places.tolist(), strict=True)),
        )

    def _live_events(self, spans: Sequence[Span], head: int) -> Iterator[tuple[int, SignalEmbedded]]:
        for span in spans:
            for record in self._reader.read(span.first, min(span.last, head), (SignalEmbedded,)):
                if isinstance(record.event, SignalEmbedded):
                    yield record.seq, record.event

    def _placed(self, events: Sequence[tuple[int, SignalEmbedded]], space: Digest | None, head: int) -> Iterator[_Row]:
        """Yields the live rows that have a vector in a space, from their own event or from a re-embedding."""
        again = {}
        if space is not None and any(event.space != space for _, event in events):
            again = self._reembedded(space, head)
        for seq, event in events:
            for index, item in enumerate(event.items):
                if item.row is None:
                    continue
                if event.space == space and event.vectors is not None:
                    yield _Row(seq, index, item, event.vectors, item.row, event.dim)
                elif (seq, index) in again:
                    yield _Row(seq, index, item, *again[seq, index])

    def _reembedded(self, space: Digest, head: int) -> dict[tuple[int, int], tuple[Digest, int, int]]:
        """Finds, for each row that was embedded again in a space, its blob, its row there and the dimension."""
        found: dict[tuple[int, int], tuple[Digest, int, int]] = {}
        for record in self._reader.read(1, head, (MemoryReembedded,)):
            event = record.event
            if isinstance(event, MemoryReembedded) and event.space == space:
                for place, (seq, index) in enumerate(event.rows):
                    found[seq, index] = (event.vectors, place, event.dim)
        return found

    def _vectors(self, rows: Sequence[_Row]) -> tuple[Floats, list[_Row]]:
        """Reads the vectors, (rows, dim), of the rows whose blob can be read and has the common dimension."""
        read: dict[Digest, NDArray[np.float32] | None] = {}
        dim = rows[-1].dim if rows else 0
        vectors: list[NDArray[np.float32]] = []
        kept: list[_Row] = []
        for row in rows:
            if row.blob not in read:
                read[row.blob] = self._blob(row)
            matrix = read[row.blob]
            if matrix is not None and row.dim == dim and 0 <= row.place < len(matrix):
                vector = matrix[row.place]
                if np.isfinite(vector).all():
                    vectors.append(vector)
                    kept.append(row)
        return (np.asarray(vectors, dtype=np.float64) if vectors else np.zeros((0, dim))), kept

    def _blob(self, row: _Row) -> NDArray[np.float32] | None:
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


def _sample(rows: Sequence[_Row], count_max: int) -> list[_Row]:
    """Draws the rows whose hashed positions are smallest, in log order."""
    if len(rows) <= count_max:
        return list(rows)
    positions = np.array([row.embedded << 20 | row.index for row in rows], dtype=np.uint64)
    chosen = np.argsort(_mixed(positions), kind="stable")[:count_max]
    return [rows[place] for place in np.sort(chosen).tolist()]


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Mixes the bits of each value: the finaliser of SplitMix64 (Steele, Lea & Flood 2014)."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _point(row: _Row, x: float, y: float) -> Point:
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
