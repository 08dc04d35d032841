"""The vectors of one embedding space, by place, and how the nearest ones are found.

Every vector is kept as a unit row of half floats: a cosine is off by some 0.0001. Up to ``EXACT_ROWS_MAX`` candidates
are compared one by one, and so are any number while the graph is behind. Else the graph proposes, and what it proposes
is compared; how widely it looks is fitted to the vectors that it holds, by some that it did not hold yet, so that it
finds at least ``RECALL_MIN`` of the ten nearest.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

import numkong
import numpy as np
from usearch.index import search as compare_all

from .vector_graph import Halves, Places, Rows, VectorGraph

EXACT_ROWS_MAX = 20_000
"""Candidates that are compared one by one; some milliseconds at most."""
LINKED_AT_ONCE_MAX = 256
"""New vectors for which a search waits until they are in the graph; more of them are linked beside it."""
RECALL_MIN: Final = 0.95
WIDTH: Final = 64
"""How many candidates a search of the graph keeps, until that is fitted."""
WIDTHS: Final = (
    *range(10, 32, 2),
    *range(32, 64, 4),
    *range(64, 128, 8),
    *range(128, 256, 32),
    256,
    384,
    512,
    768,
    1024,
)
_METRIC = "ip"
"""Of unit rows the inner product is the cosine."""
_LINKED_MAX = 1024
_PROBES = 1024
_PROBES_MIN = 48
_NEAREST = 10
_GROWTH = 1.25
_SPARE = 6
"""Of what the graph proposes, so many more than are asked for are compared: its bytes seldom rank further astray."""
_BATCH = 8
_CHUNK = 16_384
_FIRST_CAPACITY = 256


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
        self._graph = VectorGraph(dim)
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

    def nearest(self, units: Rows, k: int, among: Places | None = None) -> tuple[Places, Rows]:
        """Finds the ``k`` nearest of all vectors, or of those at the places ``among``.

        Args:
            units: (queries, dim) float32, of length one.
            k: how many; at most as many as there are candidates.
            among: places in ascending order.

        Returns:
            Places, of any type of integer, and cosines, both (queries, k), the nearest first. They are exact up to half
            floats with ``among``, and without it up to ``EXACT_ROWS_MAX`` vectors.
        """
        if among is None and self.count > EXACT_ROWS_MAX and self.behind <= LINKED_AT_ONCE_MAX:
            found = self._by_graph(units, k)
            if found is not None:
                return found
        return self._compared(units.astype(np.float16), k, among)

    def link(self, wanted: Callable[[], bool] = lambda: True) -> None:
        """Brings the graph up to date, or as far as ``wanted`` says yes; asked every second or so."""
        while self.behind and wanted():
            with self._linking:
                self._link(_LINKED_MAX)

    def pack(self, *, linked: bool = True) -> tuple[memoryview, memoryview, int]:
        """Writes the vectors and the graph, and says how many vectors the graph holds.

        Args:
            linked: whether the graph is brought up to date first; otherwise it is written as far as it goes.
        """
        with self._linking:
            self._link(None if linked else 0)
            graph = self._graph.pack() if self._linked else memoryview(b"")
            return self._matrix[: self.count].data.cast("B").toreadonly(), graph, self._linked

    @classmethod
    def unpack(cls, vectors: bytes, graph: bytes, dim: int, linked: int, width: int, fitted: int) -> VectorIndex:
        """Reads what ``pack`` wrote.

        Raises:
            ValueError: it holds something else.
        """
        made = cls(dim)
        made._matrix = np.frombuffer(vectors, np.float16).reshape(-1, dim).copy()
        made.count, made._linked = len(made._matrix), linked
        if linked:
            made._graph = VectorGraph.unpack(np.frombuffer(graph, np.uint8).copy(), dim, linked)
        made.width, made.fitted = width, fitted
        return made

    def _by_graph(self, units: Rows, k: int) -> tuple[Places, Rows] | None:
        """Gives what the graph finds; None while another thread brings it up to date, or where it finds too few."""
        if not self._linking.acquire(blocking=False):
            return None
        try:
            if self.behind:
                self._link()
            return self._proposed(units, k, self.width if k <= _NEAREST else max(self.width, 2 * k))
        finally:
            self._linking.release()

    def _link(self, at_most: int | None = None) -> None:
        whole = at_most is None or self.count <= self._linked + 2 * at_most
        count = self.count if at_most is None or whole else self._linked + at_most
        while self._stale:
            place = self._stale.pop()
            if place < self._linked:
                self._graph.replace(place, self._matrix[place])
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
        threads = 0 if len(places) > LINKED_AT_ONCE_MAX else 1
        for start in range(0, len(places), _CHUNK):
            some = places[start : start + _CHUNK]
            self._graph.add(some, self._matrix[some], threads=threads)

    def _fit(self, probes: Halves, members: Places) -> None:
        """Takes the least width at which vectors that the graph does not hold find their nearest in it."""
        wanted, _ = self._compared(probes, _NEAREST, members)
        units = unit_rows(probes.astype(np.float32))
        low, high = 0, len(WIDTHS) - 1
        while low < high:
            middle = (low + high) // 2
            found = self._proposed(units, _NEAREST, WIDTHS[middle])
            low, high = (low, middle) if found is not None and _suffices(found[0], wanted) else (middle + 1, high)
        self.width, self.fitted = WIDTHS[low], len(members) + len(probes)

    def _proposed(self, units: Rows, k: int, width: int) -> tuple[Places, Rows] | None:
        """Compares what the graph proposes for unit rows; None where it proposes fewer than it could."""
        places = self._graph.propose(units, min(width, len(self._graph)), threads=_threads(units))
        if places is None or places.shape[1] < k:
            return None
        halves = np.asarray(numkong.astype(units, "float16"))
        if len(halves) == 1:  # a few steps, each in one call: such a search is short
            near = places[0, : k + _SPARE]
            cosines = np.asarray(numkong.dot(halves[0], self._matrix.take(near, axis=0)))
            best = (-cosines).argsort()[:k]
            return near.take(best)[None], cosines.take(best)[None]
        places = places[:, : k + _SPARE]
        step = max(1, _CHUNK // places.shape[1])
        parts = [
            self._cosines(halves[start : start + step], places[start : start + step])
            for start in range(0, len(places), step)
        ]
        cosines = np.concatenate(parts)
        order = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(places, order, axis=1), np.take_along_axis(cosines, order, axis=1)

    def _cosines(self, halves: Halves, places: Places) -> Rows:
        """Compares each query with the vectors at its own places, (queries, width)."""
        rows = self._matrix.take(places.ravel(), axis=0)
        asked = np.repeat(halves, places.shape[1], axis=0)
        return np.asarray(numkong.dot(asked, rows)).reshape(places.shape)

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
