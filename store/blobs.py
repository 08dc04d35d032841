"""Content-addressed bytes, compressed with zstd.

Under 1 MiB a blob lies in the database and is written in the transaction of the event that names it; a larger one is
a file, durable before the event commits. Nothing is ever hard-linked out of the store.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import zstandard

from instar.fsm.errors import BlobCorrupt, BlobMissing, LogUnavailable
from instar.fsm.words import Digest, digest_of

from .durable import make_folder, sync_folder, write_durably
from .failpoints import failpoint
from .reader import LogReader

FILE_BYTES_MIN = 1 << 20
_LEVEL = 1


class BlobStore:
    """The blobs of one workspace; safe to share between threads."""

    def __init__(self, folder: Path, reader: LogReader) -> None:
        self._folder = folder
        self._reader = reader
        self._waiting: dict[Digest, tuple[int, bytes]] = {}
        self._durable: set[Digest] = set()
        """Known to be stored: a scan of thousands of unchanged files asks about each of them."""
        self._lock = threading.Lock()

    def put(self, content: bytes) -> Digest:
        """Stores bytes under their sha256; storing the same bytes again does nothing.

        Raises:
            LogUnavailable: the disk is full or read-only.
        """
        digest = digest_of(content)
        if self._known(digest):
            return digest
        if self._path(digest).is_file():
            self._settle_file(digest)
            return digest
        compressed = zstandard.ZstdCompressor(level=_LEVEL).compress(content)
        if len(content) >= FILE_BYTES_MIN:
            self._write_file(digest, compressed)
        else:
            with self._lock:
                self._waiting[digest] = (len(content), compressed)
        return digest

    def get(self, digest: Digest) -> bytes:
        """Returns the bytes, verified.

        Raises:
            BlobMissing: nothing is stored under this name.
            BlobCorrupt: what is stored does not hash to its name.
        """
        compressed = self._compressed(digest)
        try:
            content = zstandard.ZstdDecompressor().decompress(compressed)
        except zstandard.ZstdError as error:
            raise BlobCorrupt(self._damaged(digest)) from error
        if digest_of(content) != digest:
            raise BlobCorrupt(self._damaged(digest))
        return content

    def has(self, digest: Digest) -> bool:
        """Says whether something is stored under this name."""
        return self._known(digest) or self._path(digest).is_file()

    def _known(self, digest: Digest) -> bool:
        """Says whether a blob is certain to be durable, or to become so with the next append."""
        with self._lock:
            if digest in self._durable or digest in self._waiting:
                return True
        if not self._reader.blob_known(digest):
            return False
        with self._lock:
            self._durable.add(digest)
        return True

    def waiting(self) -> dict[Digest, tuple[int, bytes]]:
        """Small blobs, as (size, compressed), that go into the database with the next append."""
        with self._lock:
            return dict(self._waiting)

    def settled(self, digests: list[Digest]) -> None:
        """Forgets waiting blobs that a transaction has made durable."""
        with self._lock:
            for digest in digests:
                self._waiting.pop(digest, None)

    def forget(self, digests: Iterable[Digest]) -> None:
        """Removes the files of erased blobs; what lay in the database is gone with the erasure's own transaction."""
        for digest in digests:
            with self._lock:
                self._durable.discard(digest)
                self._waiting.pop(digest, None)
            with suppress(FileNotFoundError):
                failpoint("blob.forgotten")
                self._path(digest).unlink()
                sync_folder(self._path(digest).parent)

    def is_file(self, digest: Digest) -> bool:
        """Says whether a blob is kept as a file."""
        return self._path(digest).is_file()

    def files(self) -> Iterable[Digest]:
        """Names every blob that is kept as a file."""
        for folder in sorted(self._folder.glob("[0-9a-f][0-9a-f]")):
            for path in sorted(folder.glob("[0-9a-f]*")):
                yield Digest(f"{folder.name}{path.name}")

    def _compressed(self, digest: Digest) -> bytes:
        with self._lock:
            if digest in self._waiting:
                return self._waiting[digest][1]
        content = self._reader.blob(digest)
        if content is not None:
            return content
        try:
            return self._path(digest).read_bytes()
        except FileNotFoundError:
            raise BlobMissing(
                f"blob {digest} is not in the store at {self._folder}. Run `instar verify` to see what needs it."
            ) from None

    def _path(self, digest: Digest) -> Path:
        return self._folder / digest[:2] / digest[2:]

    def _damaged(self, digest: Digest) -> str:
        return (
            f"blob {digest} does not hash to its name. Run `instar verify` to see what needs it; nothing was changed."
        )

    def _write_file(self, digest: Digest, compressed: bytes) -> None:
        path = self._path(digest)
        try:
            make_folder(path.parent)
            write_durably(path, compressed)
        except OSError as error:
            raise LogUnavailable(f"blob of {len(compressed)} bytes cannot be written to {path}: {error}") from error
        with self._lock:
            self._durable.add(digest)

    def _settle_file(self, digest: Digest) -> None:
        """Makes a file durable that another process put there: it may have died before it could."""
        path = self._path(digest)
        with path.open("rb") as file:
            os.fsync(file.fileno())
        for folder in (path.parent, self._folder, self._folder.parent):
            sync_folder(folder)
        with self._lock:
            self._durable.add(digest)
