"""The ports of the store: what the rooms above may rely on."""

from __future__ import annotations

from typing import Protocol

from instar.fsm.words import Digest


class Blobs(Protocol):
    """Content-addressed bytes, write-once."""

    def put(self, content: bytes, /) -> Digest:
        """Stores bytes under their sha256; storing the same bytes again does nothing."""

    def get(self, digest: Digest) -> bytes:
        """Returns the bytes, verified.

        Raises:
            BlobMissing: nothing is stored under this name.
            BlobCorrupt: what is stored does not hash to its name.
        """

    def has(self, digest: Digest) -> bool:
        """Says whether something is stored under this name."""
