"""The rows of one embedding space, their vectors, and the search among them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from instar.fsm.errors import ConfigError
from instar.fsm.events import Span
from instar.fsm.words import ORIGIN, Digest, Seq

from .memory_row import ITEM_BITS, Hit, MemoryRow
from .row_filter import EVERYTHING, RowFilter, RowTable
from .vector_index import VectorIndex, unit_rows

__all__ = ["Hit", "MemoryRow", "VectorSpace"]

_FORMAT = 3
_DIGEST_BYTES = 32
_NOTHING = memoryview(b"")


class _Meta(Struct, frozen=True, kw_only=True):
    format: int
    space: Digest
    dim: int
    covers: Seq
    anchor: Digest | None
    vectors: bytes
    graph: bytes
    linked: int
    width: int
    fitted: int
    rows: list[MemoryRow]


class VectorSpace:
    """The rows of one space, complete up to the position ``covers``, where the log's hash is ``anchor``."""

    def __init__(self, space: Digest, index: VectorIndex | None = None, rows: Iterable[MemoryRow] = ()) -> None:
        self.space = space
        self.covers: Seq = ORIGIN
        self.anchor: Digest | None = None
        self.unsaved = 0
        self.rows: list[MemoryRow] = []
        self._index = index
        self._table = RowTable()
        self._place_of: dict[int, int] = {}
        self._of_unit: dict[str, set[int]] = {}
        self._note(list(rows))

    @property
    def dim(self) -> int:
        """Length of a vector; 0 while the space is empty."""
        return self._index.dim if self._index is not None else 0

    def add(self, rows: Sequence[MemoryRow], vectors: NDArray[np.float32]) -> int:
        """Adds rows; one that is there is overwritten if it is replaceable, else left as it is.

        Args:
            rows: what the vectors stand for.
            vectors: (rows, dim) float32, of any length but zero.

        Returns:
            How many rows were written.

        Raises:
            ConfigError: vectors that do not fit the rows or the space, or that are zero, infinite or no number.
        """
        self._check(rows, vectors)
        if not len(rows):
            return 0
        if self._index is None:
            self._index = VectorIndex(int(vectors.shape[1]))
        last = {row.key: number for number, row in enumerate(rows)}
        fresh = [number for key, number in last.items() if key not in self._place_of]
        if fresh:
            whole = len(fresh) == len(rows)
            self._index.append(vectors if whole else vectors[fresh])
            self._note(rows if whole else [rows[number] for number in fresh])
        known = set(last.values()).difference(fresh)
        written = len(fresh) + sum(self._overwrite(rows[number], vectors[number]) for number in sorted(known))
        self.unsaved += written
        return written

    def search(self, queries: NDArray[np.float32], k: int, wanted: RowFilter = EVERYTHING) -> list[list[Hit]]:
        """Gives for each query the ``k`` nearest rows that are admitted, nearest first; fewer only if there are fewer.

        Args:
            queries: (queries, dim) float32.
            k: how many rows a query.
            wanted: which rows are admitted.

        Raises:
            ConfigError: the vectors do not fit the space, or are zero, infinite or no number.
        """
        if k <= 0 or self._index is None:
            return [[] for _ in queries]
        units = self._units(queries)
        among = None if self._table.admits_all(wanted) else self._table.matching(wanted)
        count = len(self.rows) if among is None else len(among)
        if count == 0 or len(queries) == 0:
            return [[] for _ in queries]
        places, cosines = self._index.nearest(units, min(k, count), among)
        row = self.rows.__getitem__
        return [
            list(map(Hit, map(row, near), cosine))
            for near, cosine in zip(places.tolist(), cosines.tolist(), strict=True)
        ]

    def last_of_unit(self, unit: str, wanted: RowFilter = EVERYTHING) -> NDArray[np.float32] | None:
        """Gives the latest vector of a unit, (dim,) float32 of length one."""
        places = self._table.matching(wanted, np.array(sorted(self._of_unit.get(unit, ())), dtype=np.intp))
        if self._index is None or not len(places):
            return None
        latest = max(places.tolist(), key=lambda place: self.rows[place].key)
        vector: NDArray[np.float32] = self._index.at(np.array([latest]))[0]
        return vector

    def latest_of_task(
        self, task_type: str, count: int, within: Sequence[Span] | None = None
    ) -> tuple[list[MemoryRow], NDArray[np.float32]]:
        """Gives the last rows of a task type that have an outcome, in the order of the log, and their vectors."""
        if self._index is None:
            return [], np.zeros((0, 0), np.float32)
        found: list[int] = []
        for place in reversed(self._table.of_task(task_type, within).tolist()):
            row = self.rows[place]
            if len(found) >= count and row.seq != self.rows[found[-1]].seq:
                break
            if row.outcome is not None:
                found.append(place)
        latest = sorted(found, key=lambda place: self.rows[place].key)[-count:]
        return [self.rows[place] for place in latest], self._index.at(np.array(latest, dtype=np.intp))

    def vectors(self, wanted: RowFilter = EVERYTHING) -> tuple[list[MemoryRow], NDArray[np.float32]]:
        """Gives the admitted rows in the order of the log, and their vectors, (rows, dim) float32 of length one."""
        if self._index is None:
            return [], np.zeros((0, 0), np.float32)
        order = sorted(self._table.matching(wanted).tolist(), key=lambda place: self.rows[place].key)
        return [self.rows[place] for place in order], self._index.at(np.array(order, dtype=np.intp))

    @property
    def behind(self) -> int:
        """How many vectors the graph does not hold yet."""
        return self._index.behind if self._index is not None else 0

    def link(self, wanted: Callable[[], bool]) -> None:
        """Brings the graph up to date, as long as ``wanted`` says yes; may run beside all else."""
        if self._index is not None:
            self._index.link(wanted)

    def pack(self, *, linked: bool = True) -> tuple[bytes | memoryview, ...]:
        """Writes the space as three files: the graph, the vectors, and the rows with the checksums of all three.

        Args:
            linked: whether the graph is brought up to date first.
        """
        vectors, graph, held = self._index.pack(linked=linked) if self._index else (_NOTHING, _NOTHING, 0)
        meta = _Meta(
            format=_FORMAT,
            space=self.space,
            dim=self.dim,
            covers=self.covers,
            anchor=self.anchor,
            vectors=sha256(vectors).digest(),
            graph=sha256(graph).digest(),
            linked=held,
            width=self._index.width if self._index is not None else 0,
            fitted=self._index.fitted if self._index is not None else 0,
            rows=self.rows,
        )
        body = msgspec.msgpack.encode(meta)
        return graph, vectors, sha256(body).digest() + body

    @classmethod
    def unpack(cls, space: Digest, graph: bytes, vectors: bytes, meta: bytes) -> VectorSpace:
        """Reads what ``pack`` wrote; nothing reaches the graph's own reader before its checksum is right.

        Raises:
            ValueError: torn, foreign, or from another version.
        """
        body = meta[_DIGEST_BYTES:]
        if sha256(body).digest() != meta[:_DIGEST_BYTES]:
            raise ValueError("the rows do not fit their checksum")
        known = msgspec.msgpack.decode(body, type=_Meta)
        if known.format != _FORMAT or known.space != space:
            raise ValueError("another version or another space")
        if (sha256(vectors).digest(), sha256(graph).digest()) != (known.vectors, known.graph):
            raise ValueError("vectors or graph do not fit their rows")
        index = (
            VectorIndex.unpack(vectors, graph, known.dim, known.linked, known.width, known.fitted)
            if known.dim
            else None
        )
        if len(known.rows) != (index.count if index else 0):
            raise ValueError("there is not one vector a row")
        made = cls(space, index, known.rows)
        made.covers, made.anchor = known.covers, known.anchor
        return made

    def _units(self, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        """Gives queries as rows of length one."""
        if queries.ndim == 2 and queries.shape[1] == self.dim:
            if len(queries) == 1:  # the one product finds what is not finite, too
                square = float(queries[0].dot(queries[0]))
                if 0 < square < math.inf:
                    unit: NDArray[np.float32] = queries * (1 / math.sqrt(square))
                    return unit
            elif np.isfinite(queries).all() and queries.any(axis=1).all():
                return unit_rows(queries)
        raise ConfigError(
            f"vectors of shape {queries.shape} cannot be looked up among vectors of {self.dim} finite numbers: "
            "embed the text with the model of this space"
        )

    def _note(self, rows: Sequence[MemoryRow]) -> None:
        """Takes rows that are new, whose vectors stand at the next places."""
        start = len(self.rows)
        self.rows += rows
        self._table.append(rows)
        for place, row in enumerate(rows, start):
            self._place_of[row.key] = place
            self._of_unit.setdefault(row.unit, set()).add(place)

    def _overwrite(self, row: MemoryRow, vector: NDArray[np.float32]) -> bool:
        place = self._place_of[row.key]
        before = self.rows[place]
        if not before.replaceable or self._index is None:
            return False
        self._index.replace(place, vector)
        self._table.replace(place, row)
        self.rows[place] = row
        self._of_unit[before.unit].discard(place)
        self._of_unit.setdefault(row.unit, set()).add(place)
        return True

    def _check(self, rows: Sequence[MemoryRow], vectors: NDArray[np.float32]) -> None:
        if vectors.ndim != 2 or len(vectors) != len(rows) or (self.dim and vectors.shape[1] != self.dim):
            raise ConfigError(
                f"vectors of shape {vectors.shape} do not fit {len(rows)} rows of {self.dim or 'some'} numbers in "
                f"space {self.space[:12]}: give one vector a row, made by the model of this space"
            )
        if not np.isfinite(vectors).all() or (len(vectors) and not np.linalg.norm(vectors, axis=1).all()):
            raise ConfigError(
                f"a vector for space {self.space[:12]} is zero, infinite or no number: leave out rows that failed"
            )
        if any(not 0 <= row.item < 1 << ITEM_BITS for row in rows):
            raise ConfigError(f"an event can hold {1 << ITEM_BITS} rows of memory: cut the cycle smaller")
