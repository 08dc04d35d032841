"""Blobs for work that must leave no trace: what is put stays in RAM, what is asked for comes from the store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from instar.fsm.errors import BlobCorrupt, BlobMissing
from instar.fsm.words import Digest, digest_of

from .ports import BlobIntake, Blobs


class ScratchBlobs:
    """Lies over the blobs of a workspace and never writes to them.

    Args:
        store: the blobs beneath, read only.

    Attributes:
        missing: what was asked for and is not in the store.
        damaged: what was asked for and does not hash to its name.
    """

    def __init__(self, store: Blobs) -> None:
        self._store = store
        self._made: dict[Digest, bytes] = {}
        self.missing: set[Digest] = set()
        self.damaged: set[Digest] = set()

    def put(self, content: bytes) -> Digest:
        """Keeps bytes that the store does not have."""
        digest = digest_of(content)
        if not self._store.has(digest):
            self._made[digest] = content
        return digest

    def get(self, digest: Digest) -> bytes:
        """Returns the bytes, verified.

        Raises:
            BlobMissing: neither the store nor this has them.
            BlobCorrupt: what the store has does not hash to its name.
        """
        made = self._made.get(digest)
        return self.stored(digest) if made is None else made

    def stored(self, digest: Digest) -> bytes:
        """Returns what the store has, even where the same was put here.

        Raises:
            BlobMissing: the store does not have it.
            BlobCorrupt: what the store has does not hash to its name.
        """
        try:
            return self._store.get(digest)
        except BlobMissing:
            self.missing.add(digest)
            raise
        except BlobCorrupt:
            self.damaged.add(digest)
            raise

    def has(self, digest: Digest) -> bool:
        """Says whether the bytes are here or in the store."""
        return digest in self._made or self._store.has(digest)

    def forget(self) -> None:
        """Drops what was put, and what was noted."""
        self._made.clear()
        self.missing.clear()
        self.damaged.clear()


class ScratchIntake(ScratchBlobs):
    """Takes in a whole tree where nothing may be written: what the store lacks of it stays in RAM.

    Args:
        store: the blobs beneath, read only.
    """

    def __init__(self, store: BlobIntake) -> None:
        super().__init__(store)
        self._beneath = store

    def prepared(self, hashed: Sequence[tuple[Digest, bytes]]) -> Callable[[], None]:
        """Asks which of several contents are new; gives what keeps them."""
        new = self.lacking(digest for digest, _ in hashed)
        made = {digest: content for digest, content in hashed if digest in new}
        return lambda: self._made.update(made)

    def put_parts(self, parts: Iterator[bytes], size: int) -> Digest:  # noqa: ARG002  # a port's
        """Keeps what comes in parts, in one piece.

        Raises:
            Exception: what ``parts`` raises; nothing was kept.
        """
        return self.put(b"".join(parts))

    def lacking(self, digests: Iterable[Digest]) -> set[Digest]:
        """Says which of some blobs are neither here nor in the store."""
        return self._beneath.lacking({each for each in digests if each not in self._made})
