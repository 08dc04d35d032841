"""Reads the nodes of many trees at once: by a query of its own for each, a walk would take several times as long."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from instar.fsm.errors import BlobCorrupt, BlobMissing
from instar.fsm.words import Digest

from .blobs import BlobStore
from .naming import Below, decode_below

_BYTES_MAX = 64 << 20
"""What is held at once; what comes after that is read when it is asked for."""
_AT_ONCE = 64
"""A blob in the database has a MiB at most."""


class ReadAhead:
    """A store whose blobs may have been read already; holds those of the latest call alone.

    Damaged and missing ones are left out, so that asking for them says what is the matter.

    Args:
        blobs: the store.
    """

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self._held: dict[Digest, bytes] = {}
        self._bytes = 0
        self._seen: set[Digest] = set()
        """Read ahead once: whoever walks has taken them in since, and will not ask again."""

    def get(self, digest: Digest) -> bytes:
        """Returns the bytes, verified; raises as ``Blobs.get``."""
        content = self._held.get(digest)
        return self._blobs.get(digest) if content is None else content

    def has(self, digest: Digest) -> bool:
        """Says whether something is stored under this name."""
        return self._blobs.has(digest)

    def put(self, content: bytes, /) -> Digest:
        """Stores bytes."""
        return self._blobs.put(content)

    def trees(self, roots: Iterable[Digest], *, with_files: bool = False) -> None:
        """Reads the nodes of some trees that were not read ahead before, a level at a time.

        Args:
            roots: the digests of the trees.
            with_files: reads the content of their files too.
        """
        self._drop()
        files: list[Digest] = []
        level = list(roots)
        while level:
            below = [_decoded(content) for content in self._read(level)]
            if with_files:
                files += [file.blob for held in below if held for file in held.files.values()]
            level = [folder for held in below if held for folder in held.folders.values()]
        for _ in self._read(files):
            pass

    def _drop(self) -> None:
        self._held, self._bytes = {}, 0

    def _read(self, digests: Iterable[Digest]) -> Iterator[bytes]:
        fresh = [digest for digest in dict.fromkeys(digests) if digest not in self._seen]
        for first in range(0, len(fresh), _AT_ONCE):
            if self._bytes > _BYTES_MAX:
                return
            asked = fresh[first : first + _AT_ONCE]
            self._seen.update(asked)
            for digest, content in self._got(asked):
                self._held[digest] = content
                self._bytes += len(content)
                yield content

    def _got(self, asked: Sequence[Digest]) -> Iterator[tuple[Digest, bytes]]:
        try:
            yield from zip(asked, self._blobs.get_many(asked), strict=True)
        except (BlobMissing, BlobCorrupt):
            for digest in asked:
                try:
                    content = self._blobs.get(digest)
                except (BlobMissing, BlobCorrupt):
                    continue
                yield digest, content


def _decoded(content: bytes) -> Below | None:
    try:
        return decode_below(content)
    except msgspec.DecodeError:
        return None  # no node; whoever walks says so
