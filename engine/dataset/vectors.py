"""The vectors by which a data set was made, as they were recorded with it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from instar.fsm.errors import BlobCorrupt


class RecordedVectors:
    """Stands in for the model.

    Args:
        content: the blob.
        dim: the length of a vector.

    Raises:
        BlobCorrupt: the bytes are no whole number of vectors.
    """

    def __init__(self, content: bytes, dim: int) -> None:
        if dim <= 0 or len(content) % (4 * dim):
            raise BlobCorrupt(f"{len(content)} bytes are no vectors of {dim} numbers")
        self._vectors = np.frombuffer(content, dtype="<f4").reshape(-1, dim).astype(np.float32)

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Gives the recorded vectors, if there is one for each text.

        Raises:
            ValueError: there is not.
        """
        if len(texts) != len(self._vectors):
            raise ValueError(f"{len(self._vectors)} vectors are recorded, its rows have {len(texts)} texts")
        return self._vectors
