"""The vectors of one embedding space, by place, and how the nearest ones are found.

Every vector is kept as a unit row of half floats: a cosine is off by some 0.0001. Up to ``EXACT_ROWS_MAX`` candidates
are compared one by one, and so are any number while the graph is behind. Else usearch's graph (HNSW, Malkov & Yashunin
2018) proposes; how widely it looks is fitted to the vectors that it holds, by some that it did not hold yet, so that
it finds at least ``RECALL_MIN`` of the ten nearest. The graph compares bfloat16: as near to float32 at this length, and
1.5 times as fast as half floats in a search, 1.6 times in a build.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray
from usearch.index import Index, Matches
from usearch.index import search as compare_all

EXACT_ROWS_MAX = 20_000
"""Candidates that are compared one by one; some milliseconds at most."""
LINKED_AT_ONCE_MAX = 256
"""New vectors for which a search waits until they are in the graph; more of them are linked beside it."""
RECALL_MIN: Final = 0.95
CONNECTIVITY: Final = 16
"""Neighbours of a node in the graph; usearch's own value, as are the next two."""
EXPANSION_ADD: Final = 128
WIDTH: Final = 64
"""How many candidates a search of the graph keeps, until that is fitted."""
WIDTHS: Final = (
    10,
    12,
    14,
    16,
    20,
    24,
    28,
    32,
    40,
    48,
    56,
    64,
    80,
    96,
    112,
    128,
    160,
    192,
    224,
    256,
    320,
    384,
    512,
    768,
    1024,
)
_METRIC = "ip"
"""Of unit rows the inner product is the cosine."""
_LINKED_MAX = 2048
_PROBES = 512
_PROBES_MIN = 48
_NEAREST = 10
_GROWTH = 1.25
_BATCH = 8
_CHUNK = 16_384
_FIRST_CAPACITY = 256

Rows = NDArray[np.float32]
Halves = NDArray[np.float16]
Places = NDArray[np.integer]


class VectorIndex:
    """Vectors at the places 0, 1, 2 …, of which a search gives the nearest.

    One thread appends, replaces and searches at a time; ``link`` may run beside it in another.

    Args:
        dim: length of a vector.
    """

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self.count = 0
        self.width = WIDTH
        """How many candidates a search of the graph keeps."""
        self.fitted = 0
        """How many vectors there were when the width was fitted; 0 if it never was."""
        self._matrix: Halves = np.zeros((_FIRST_CAPACITY, dim), np.float16)  # (capacity, dim)
        self._graph = Index(
            ndim=dim, metric=_METRIC, dtype="bf16", connectivity=CONNECTIVITY, expansion_add=EXPANSION_ADD
        )
        self._linked = 0
        self._stale: list[int] = []
        """Places below ``_linked`` whose vector is another one now."""
        self._linking = threading.Lock()
        """Held by whoever uses the graph."""

    @property
    def behind(self) -> int:
        """How many vectors the graph does not hold yet."""
        return self.count - self._linked + len(self._stale)

    def append(self, vectors: Rows) -> None:
        """Adds vectors, (n, dim) float32 of any length but zero, at the next places."""
        start, end = self.count, self.count + len(vectors)
        if end > len(self._matrix):
            grown = np.zeros((max(end, 2 * len(self._matrix)), self.dim), np.float16)
            grown[:start] = self._matrix[:start]
            self._matrix = grown
        self._matrix[start:end] = unit_rows(vectors)
        self.count = end

    def replace(self, place: int, vector: Rows) -> None:
        """Puts another vector, (dim,), at a place."""
        self._matrix[place] = unit_rows(vector[None])[0]
        self._stale.append(place)

    def at(self, places: Places) -> Rows:
        """Gives the vectors at places, (places, dim) float32 of length one."""
        return unit_rows(self._matrix[places].astype(np.float32))

    def nearest(self, queries: Rows, k: int, among: Places | None = None) -> tuple[Places, Rows]:
        """Finds the ``k`` nearest of all vectors, or of those at the places ``among``.

        Args:
            queries: (queries, dim) float32.
            k: how many; at most as many as there are candidates.
            among: places in ascending order.

        Returns:
            Places, of any type of integer, and cosines, both (queries, k), the nearest first. They are exact up to half
            floats with ``among``, and without it up to ``EXACT_ROWS_MAX`` vectors.
        """
        if among is None and self.count > EXACT_ROWS_MAX and self.behind <= LINKED_AT_ONCE_MAX:
            found = self._by_graph(queries, k)
            if found is not None:
                return found
        return self._compared(unit_rows(queries).astype(np.float16), k, among)

    def link(self, wanted: Callable[[], bool] = lambda: True) -> None:
        """Brings the graph up to date, or as far as ``wanted`` says yes; asked every second or so."""
        while self.behind and wanted():
            with self._linking:
                self._link(_LINKED_MAX)

    def pack(self) -> tuple[bytes, bytes]:
        """Writes the vectors and the graph."""
        with self._linking:
            self._link()
            return self._matrix[: self.count].tobytes(), bytes(self._graph.save() or b"")

    @classmethod
    def unpack(cls, vectors: bytes, graph: bytes, dim: int, width: int, fitted: int) -> VectorIndex:
        """Reads what ``pack`` wrote.

        Raises:
            ValueError: it holds something else.
        """
        made = cls(dim)
        made._matrix = np.frombuffer(vectors, np.float16).reshape(-1, dim).copy()
        made.count = made._linked = len(made._matrix)
        restored = Index.restore(graph)
        wanted = (dim, made._graph.dtype, made.count)
        if restored is None or (restored.ndim, restored.dtype, len(restored)) != wanted:
            raise ValueError("the graph holds other vectors")
        made._graph, made.width, made.fitted = restored, width, fitted
        return made

    def _by_graph(self, queries: Rows, k: int) -> tuple[Places, Rows] | None:
        """Gives what the graph finds; None while another thread brings it up to date, or where it finds too few."""
        if not self._linking.acquire(blocking=False):
            return None
        try:
            if self.behind:
                self._link()
            return self._proposed(queries, k, self.width if k <= _NEAREST else max(self.width, 2 * k))
        finally:
            self._linking.release()

    def _link(self, at_most: int | None = None) -> None:
        whole = at_most is None or self.count <= self._linked + 2 * at_most
        count = self.count if at_most is None or whole else self._linked + at_most
        while self._stale:
            key = np.array([self._stale.pop()], dtype=np.uint64)
            if key[0] < self._linked:
                self._graph.remove(key)
                self._graph.add(key, self._matrix[key[0]][None], threads=1)
        fresh = np.arange(self._linked, count)
        outgrown = count > EXACT_ROWS_MAX and count >= _GROWTH * self.fitted
        if whole and outgrown and len(fresh) >= _PROBES_MIN:
            probes = fresh[:: max(2, len(fresh) // _PROBES)]
            self._add(np.setdiff1d(fresh, probes, assume_unique=True))
            self._fit(self._matrix[probes], np.setdiff1d(np.arange(count), probes, assume_unique=True))
            fresh = probes
        self._add(fresh)
        self._linked = count

    def _add(self, places: Places) -> None:
        # Few vectors are linked by one thread: the graph then depends on the order of the rows alone.
        if len(places):
            threads = 0 if len(places) > LINKED_AT_ONCE_MAX else 1
            self._graph.add(places.astype(np.uint64), self._matrix[places], threads=threads)

    def _fit(self, probes: Halves, members: Places) -> None:
        """Takes the least width at which vectors that the graph does not hold find their nearest in it."""
        wanted, _ = self._compared(probes, _NEAREST, members)
        low, high = 0, len(WIDTHS) - 1
        while low < high:
            middle = (low + high) // 2
            found = self._proposed(probes, _NEAREST, WIDTHS[middle])
            low, high = (low, middle) if found is not None and _suffices(found[0], wanted) else (middle + 1, high)
        self.width, self.fitted = WIDTHS[low], len(members) + len(probes)

    def _proposed(self, queries: Rows | Halves, k: int, width: int) -> tuple[Places, Rows] | None:
        """Gives places and cosines; None where a query finds fewer than ``k``."""
        if self._graph.expansion_search != width:
            self._graph.expansion_search = width  # type: ignore[misc]  # the checker misses its setter
        found = self._graph.search(queries, k, threads=_threads(queries))
        if isinstance(found, Matches):
            if len(found) != k:
                return None
            keys, products = found.keys[None], 1.0 - found.distances[None]
        elif (found.counts == k).all():
            keys, products = found.keys, 1.0 - found.distances
        else:
            return None
        cosines: Rows = (products / _lengths(queries)).astype(np.float32, copy=False)
        return keys, cosines

    def _compared(self, queries: Halves, k: int, among: Places | None) -> tuple[Places, Rows]:
        """Compares with every candidate, some thousands at a time, so that they are not copied all at once."""
        best = np.zeros((len(queries), 0), np.intp), np.zeros((len(queries), 0), np.float32)
        total = self.count if among is None else len(among)
        for start in range(0, total, _CHUNK):
            places = np.arange(start, min(start + _CHUNK, total)) if among is None else among[start : start + _CHUNK]
            stretch = self._matrix[places[0] : places[-1] + 1]
            rows = stretch if len(stretch) == len(places) else self._matrix[places]
            found = compare_all(rows, queries, min(k, len(rows)), _METRIC, exact=True, threads=_threads(queries))
            keys, distances = np.atleast_2d(found.keys), np.atleast_2d(found.distances)
            near, cosines = np.hstack([best[0], places[keys]]), np.hstack([best[1], 1.0 - distances])
            order = np.lexsort((near, -cosines), axis=1)[:, :k]
            best = np.take_along_axis(near, order, axis=1), np.take_along_axis(cosines, order, axis=1)
        return best


def _threads(queries: Rows | Halves) -> int:
    """One query is not worth a thread; many take every core."""
    return 1 if len(queries) < _BATCH else 0


def _suffices(found: Places, wanted: Places) -> bool:
    """Says whether enough of the nearest were found, with two standard errors to spare."""
    shares = (found[:, :, None] == wanted[:, None, :]).any(axis=1).mean(axis=1)  # (probes,)
    return bool(shares.mean() - 2 * shares.std() / np.sqrt(len(shares)) >= RECALL_MIN)


def unit_rows(vectors: Rows) -> Rows:
    """Gives rows of length one, (n, dim) float32."""
    rows: Rows = vectors / _lengths(vectors)
    return rows


def _lengths(vectors: Rows | Halves) -> Rows:
    lengths: Rows = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float32))[:, None]
    return lengths
