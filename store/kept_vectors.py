"""Vectors on disk while a long embedding runs, so that one that was killed goes on where it stopped.

The file is scratch: a header, then records of a text's sha256, its vector and a checksum of both. What was torn, or
made otherwise, is left out and embedded again. It may be deleted at any time.
"""

from __future__ import annotations

import logging
import os
import zlib
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import numpy as np
from numpy.typing import NDArray

logger = logging.getLogger("instar.store")

SUFFIX = ".part"
_HEADER_BYTES = 32
_KEY_BYTES = 32
_CHECK_BYTES = 4


class KeptVectors:
    """The vectors that one way of embedding made so far; use it as a context, by one process at a time.

    A disk that refuses costs what was kept, nothing else.

    Args:
        path: the file; made with its folder when first written.
        way: what the vectors depend on beside the text; a file that was made in another way is begun anew.
        dim: length of a vector.
    """

    def __init__(self, path: Path, way: str, dim: int) -> None:
        self._path = path
        self._header = sha256(f"{way} {dim}".encode()).digest()
        self._dim = dim
        self._rows: dict[bytes, NDArray[np.float32]] = {}
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        whole = self._read()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("r+b" if whole else "wb")
            if whole:
                self._file.truncate(whole)
                self._file.seek(whole)
            else:
                self._file.write(self._header)
        except OSError as error:
            self._give_up(error)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            try:
                self._file.close()
            except OSError as closing:
                self._give_up(closing)

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, text: str) -> NDArray[np.float32] | None:
        """Gives the vector of a text, (dim,) float32, if it is kept."""
        return self._rows.get(_key(text))

    def put(self, texts: Sequence[str], rows: NDArray[np.float32]) -> None:
        """Keeps vectors, (texts, dim) float32; they are durable when it returns."""
        if self._file is None:
            return
        content = bytearray()
        for text, row in zip(texts, rows, strict=True):
            record = _key(text) + row.astype("<f4").tobytes()
            content += record + zlib.crc32(record).to_bytes(_CHECK_BYTES, "little")
        try:
            self._file.write(content)
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            self._give_up(error)

    def _read(self) -> int:
        """Reads what is there; gives the number of bytes that are whole, 0 if the file is another one."""
        try:
            content = self._path.read_bytes()
        except OSError:
            return 0
        if content[:_HEADER_BYTES] != self._header:
            return 0
        size = _KEY_BYTES + 4 * self._dim + _CHECK_BYTES
        whole = _HEADER_BYTES
        while whole + size <= len(content):
            record = content[whole : whole + size - _CHECK_BYTES]
            if zlib.crc32(record).to_bytes(_CHECK_BYTES, "little") != content[whole + len(record) : whole + size]:
                break
            self._rows[record[:_KEY_BYTES]] = np.frombuffer(record, "<f4", offset=_KEY_BYTES)
            whole += size
        return whole

    def _give_up(self, error: OSError) -> None:
        logger.warning("what is embedded is not kept until it is recorded: %s", error)
        self._file = None


def _key(text: str) -> bytes:
    return sha256(text.encode("utf-8", "surrogatepass")).digest()
