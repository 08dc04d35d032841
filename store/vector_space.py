"""The vectors of one embedding space: a usearch index, and what each row stands for.

Up to ``EXACT_ROWS_MAX`` rows every search is exact (0.7 ms for 10,000 rows of 384 numbers); beyond, the index's graph
(HNSW, Malkov & Yashunin 2018) proposes and a filter that leaves too few falls back to the exact search. Vectors are
kept as half floats: a cosine is off by some 0.0001.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from typing import cast

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from usearch.index import Index

from instar.fsm.errors import ConfigError
from instar.fsm.events import Outcome
from instar.fsm.words import ORIGIN, Digest, Seq

EXACT_ROWS_MAX = 20_000
_ITEM_BITS = 20
_FORMAT = 1
_DIGEST_BYTES = 32


class MemoryRow(Struct, frozen=True, kw_only=True):
    """One row of memory: item ``item`` of the SignalEmbedded at ``seq``; ``signal`` is what it stands for."""

    seq: Seq
    item: int
    signal: Seq
    kind: str
    unit: str
    text: str
    task_type: str | None = None
    outcome: Outcome | None = None
    replaceable: bool = True
    at_us: int = 0

    @property
    def key(self) -> int:
        """The row's key in the index: 44 bits of position, 20 bits of item."""
        return self.seq << _ITEM_BITS | self.item


class Hit(Struct, frozen=True):
    """A row and its cosine similarity to what was asked."""

    row: MemoryRow
    similarity: float


class _Meta(Struct, frozen=True, kw_only=True):
    format: int
    space: Digest
    dim: int
    covers: Seq
    anchor: Digest | None
    index: bytes
    rows: list[MemoryRow]


class VectorSpace:
    """The rows of one space, complete up to the position ``covers``, where the log's hash is ``anchor``."""

    def __init__(self, space: Digest, index: Index | None = None, rows: Iterable[MemoryRow] = ()) -> None:
        self.space = space
        self.covers: Seq = ORIGIN
        self.anchor: Digest | None = None
        self.unsaved = 0
        self.rows: dict[int, MemoryRow] = {}
        self._index = index
        self._of_unit: dict[str, set[int]] = {}
        for row in rows:
            self._note(row)

    @property
    def dim(self) -> int:
        """Length of a vector; 0 while the space is empty."""
        return int(self._index.ndim) if self._index is not None else 0

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
        last = {row.key: place for place, row in enumerate(rows)}
        places = [place for key, place in last.items() if key not in self.rows or self.rows[key].replaceable]
        if not places:
            return 0
        if self._index is None:
            self._index = Index(ndim=int(vectors.shape[1]), metric="cos", dtype="f16")
        taken = [rows[place] for place in places]
        known = [row.key for row in taken if row.key in self.rows]
        if known:
            self._index.remove(np.array(known, dtype=np.uint64))
        keys = np.array([row.key for row in taken], dtype=np.uint64)
        # One thread: the graph then depends on the order of the rows alone. More were not faster on two cores.
        self._index.add(keys, _unit_rows(vectors[places]), threads=1)
        for row in taken:
            self._note(row)
        self.unsaved += len(taken)
        return len(taken)

    def search(self, vector: NDArray[np.float32], k: int, admits: Callable[[MemoryRow], bool] | None) -> list[Hit]:
        """Gives the ``k`` nearest rows that are admitted, nearest first; fewer only if there are fewer.

        Raises:
            ConfigError: the vector does not fit the space.
        """
        total = len(self.rows)
        if k <= 0 or total == 0 or self._index is None:
            return []
        if vector.shape != (self.dim,) or not np.isfinite(vector).all():
            raise ConfigError(
                f"a vector of shape {vector.shape} cannot be looked up among vectors of {self.dim} finite numbers: "
                "embed the text with the model of this space"
            )
        fetch = min(total, k if admits is None else 4 * k)
        while True:
            exact = total <= EXACT_ROWS_MAX or fetch == total
            found = self._index.search(vector, fetch, exact=exact, threads=1)
            near = zip(found.keys.tolist(), found.distances.tolist(), strict=True)
            pairs = ((self.rows[key], distance) for key, distance in near)
            hits = [Hit(row, 1.0 - distance) for row, distance in pairs if admits is None or admits(row)]
            if len(hits) >= k or fetch == total:
                return sorted(hits, key=lambda hit: (-hit.similarity, hit.row.key))[:k]
            fetch = min(total, fetch * 8)

    def last_of_unit(self, unit: str, admits: Callable[[MemoryRow], bool] | None) -> NDArray[np.float32] | None:
        """Gives the latest vector of a unit, (dim,) float32 of length one."""
        keys = self._of_unit.get(unit, ())
        latest = max((key for key in keys if admits is None or admits(self.rows[key])), default=None)
        return None if latest is None else self.vectors([latest])[0]

    def vectors(self, keys: Sequence[int]) -> NDArray[np.float32]:
        """Gives the vectors of rows, (keys, dim) float32 of length one."""
        if not keys or self._index is None:
            return np.zeros((0, self.dim), np.float32)
        found = cast("Sequence[NDArray[np.float32]]", self._index.get(np.array(keys, dtype=np.uint64), dtype="f32"))
        return _unit_rows(np.stack([vector.reshape(-1) for vector in found]))

    def pack(self) -> tuple[bytes, bytes]:
        """Writes the space as two files: the index, and the rows with the checksum of both."""
        index = bytes(self._index.save() or b"") if self._index is not None else b""
        meta = _Meta(
            format=_FORMAT,
            space=self.space,
            dim=self.dim,
            covers=self.covers,
            anchor=self.anchor,
            index=sha256(index).digest(),
            rows=list(self.rows.values()),
        )
        body = msgspec.msgpack.encode(meta)
        return index, sha256(body).digest() + body

    @classmethod
    def unpack(cls, space: Digest, index: bytes, meta: bytes) -> VectorSpace:
        """Reads what ``pack`` wrote; nothing reaches the index's own reader before its checksum is right.

        Raises:
            ValueError: torn, foreign, or from another version.
        """
        body = meta[_DIGEST_BYTES:]
        if sha256(body).digest() != meta[:_DIGEST_BYTES]:
            raise ValueError("the rows do not fit their checksum")
        known = msgspec.msgpack.decode(body, type=_Meta)
        if known.format != _FORMAT or known.space != space or sha256(index).digest() != known.index:
            raise ValueError("the index does not fit its rows")
        made = cls(space, Index.restore(index) if index else None, known.rows)
        made.covers, made.anchor = known.covers, known.anchor
        return made

    def _note(self, row: MemoryRow) -> None:
        before = self.rows.get(row.key)
        if before is not None:
            self._of_unit[before.unit].discard(row.key)
        self.rows[row.key] = row
        self._of_unit.setdefault(row.unit, set()).add(row.key)

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
        if any(not 0 <= row.item < 1 << _ITEM_BITS for row in rows):
            raise ConfigError(f"an event can hold {1 << _ITEM_BITS} rows of memory: cut the cycle smaller")


def _unit_rows(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    rows: NDArray[np.float32] = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return rows
