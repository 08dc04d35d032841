"""Vectors of texts that were embedded lately, so that a text is not embedded twice."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from hashlib import sha256
from typing import Final

import numpy as np
from numpy.typing import NDArray

BYTES_MAX: Final = 64 * 1024 * 1024
_ENTRY_BYTES: Final = 250
"""What an entry costs beside its vector."""

Key = tuple[str, bytes]


def key_of(space: str, text: str) -> Key:
    """Names a text in a space by the hash of its content.

    Args:
        space: the checkpoint, and how it is computed with.
        text: exactly what is embedded.
    """
    return space, sha256(text.encode("utf-8", "surrogatepass")).digest()


class VectorCache:
    """Keeps what was used last, up to a number of bytes; safe to share between threads.

    Args:
        bytes_max: 0 keeps nothing.
    """

    def __init__(self, bytes_max: int = BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._rows: OrderedDict[Key, NDArray[np.float32]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Key) -> NDArray[np.float32] | None:
        """Gives a vector, (dim,) float32, which must not be changed; None where it is not held."""
        with self._lock:
            row = self._rows.get(key)
            if row is not None:
                self._rows.move_to_end(key)
            return row

    def put(self, keys: Sequence[Key], rows: NDArray[np.float32]) -> None:
        """Takes the vectors of texts, (keys, dim) float32."""
        with self._lock:
            for key, row in zip(keys, rows, strict=True):
                if key not in self._rows:
                    self._rows[key] = row.copy()
                    self._bytes += row.nbytes + _ENTRY_BYTES
            while self._bytes > self._bytes_max:
                _, row = self._rows.popitem(last=False)
                self._bytes -= row.nbytes + _ENTRY_BYTES

    def __len__(self) -> int:
        return len(self._rows)
