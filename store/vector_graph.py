"""The graph that proposes which vectors of a space may be near: usearch's HNSW (Malkov & Yashunin 2018).

It compares signed bytes, which take half the room of half floats: a search waits for memory most of all. They are
rough, so whoever asks compares what it proposes once more. A graph that was written or read is searched where its bytes
lie, in an array of numpy's, which asks the kernel for large pages; it is copied out of it when it is to change.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import numkong
import numpy as np
from numpy.typing import NDArray
from usearch.index import Index

CONNECTIVITY: Final = 16
"""Neighbours of a node; usearch's own value, as is the next one."""
EXPANSION_ADD: Final = 128
_METRIC = "ip"
"""Of unit rows the inner product is the cosine."""
_BYTE_MAX: Final = 127.0
_SPREADS: Final = 6.0
"""How many times its expected size a number of a unit row may have before it is cut."""

Rows = NDArray[np.float32]
Halves = NDArray[np.float16]
Places = NDArray[np.integer]


class VectorGraph:
    """Unit rows by their places. One thread at a time may use it.

    Args:
        dim: length of a vector.
    """

    def __init__(self, dim: int) -> None:
        self._scale = np.float32(_BYTE_MAX / min(1.0, _SPREADS / math.sqrt(dim)))
        self._width = 0
        self._take(Index(ndim=dim, metric=_METRIC, dtype="i8", connectivity=CONNECTIVITY, expansion_add=EXPANSION_ADD))
        self._settled: NDArray[np.uint8] | None = None
        """The bytes that the index looks at in place, without which it may change."""

    def __len__(self) -> int:
        return len(self._index)

    def add(self, places: Places, vectors: Rows | Halves, *, threads: int) -> None:
        """Takes unit rows, (places, dim), at new places; by one thread it depends on their order alone."""
        self._unsettle()
        if len(places):
            scaled = vectors.astype(np.float32) * self._scale
            rows = np.asarray(numkong.astype(scaled, "int8"))  # rounded, and cut where it is too large
            self._index.add(places.astype(np.uint64), rows, threads=threads)

    def replace(self, place: int, vector: Rows | Halves) -> None:
        """Puts another unit row, (dim,), at a place."""
        self._unsettle()
        self._index.remove(np.array([place], np.uint64))
        self.add(np.array([place]), vector[None], threads=1)

    def propose(self, queries: Rows, width: int, *, threads: int) -> NDArray[np.int64] | None:
        """Proposes places that may be the nearest, the nearest more or less first.

        Args:
            queries: (queries, dim) of length one.
            width: how many candidates a query are kept on the way; all of them are given.
            threads: 0 takes every core.

        Returns:
            Places, (queries, ``width``); None where a query meets fewer.
        """
        if self._width != width:
            self._index.expansion_search = self._width = width  # type: ignore[misc]  # the checker misses its setter
        keys, counts = self._search(numkong.astype(queries * self._scale, "int8"), width, threads)
        whole = counts.item(0) == width if len(counts) == 1 else (counts == width).all()
        return keys.view(np.int64) if whole else None

    def pack(self) -> memoryview:
        """Writes the graph."""
        content = self._settled
        if content is None:
            content = np.frombuffer(self._index.save() or b"", np.uint8).copy()
            self._settle(content)
        return content.data.toreadonly()

    @classmethod
    def unpack(cls, content: NDArray[np.uint8], dim: int, count: int) -> VectorGraph:
        """Reads what ``pack`` wrote, and keeps it.

        Raises:
            ValueError: it holds something else.
        """
        made = cls(dim)
        dtype = made._index.dtype
        made._settle(content)
        if (made._index.ndim, made._index.dtype, len(made)) != (dim, dtype, count):
            raise ValueError("the graph holds other vectors")
        return made

    def _settle(self, content: NDArray[np.uint8]) -> None:
        self._take(_restored(content, view=True))
        self._settled = content

    def _unsettle(self) -> None:
        if self._settled is not None:
            self._take(_restored(self._settled))
            self._settled = None

    def _take(self, index: Index) -> None:
        self._index, self._search, self._width = index, _entry(index), 0


def _entry(index: Index) -> Callable[[Any, int, int], tuple[NDArray[np.uint64], NDArray[np.integer]]]:
    """Gives a search by bytes, width and threads for keys, (queries, width), and how many of them there are.

    usearch's own entry lies below its face in Python, which takes some 6 of the 60 µs of a search.
    """
    inner: Any = getattr(getattr(index, "_compiled", None), "search_many", None)

    def by_face(rows: Any, width: int, threads: int) -> tuple[NDArray[np.uint64], NDArray[np.integer]]:
        found: Any = index.search(np.asarray(rows), width, threads=threads)
        keys = np.atleast_2d(found.keys)
        counts: Any = getattr(found, "counts", [keys.shape[1]])
        return keys, np.asarray(counts)

    def by_entry(rows: Any, width: int, threads: int) -> tuple[NDArray[np.uint64], NDArray[np.integer]]:
        keys, _, counts, _, _ = inner(rows, width, False, threads)
        return keys, counts

    return by_face if inner is None else by_entry


def _restored(content: NDArray[np.uint8], *, view: bool = False) -> Index:
    made = Index.restore(content.data, view=view, enable_key_lookups=not view)
    if made is None:
        raise ValueError("the graph is none of usearch's")
    if not view:
        made.expansion_add = EXPANSION_ADD  # type: ignore[misc]  # not among what usearch writes
    return made
