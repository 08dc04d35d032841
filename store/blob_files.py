"""Blobs that are files: one zstd frame each, under the sha256 of its content, durable before an event names it."""

from __future__ import annotations

import errno
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from instar.fsm.errors import BlobMissing, LogUnavailable
from instar.fsm.words import Digest

from .durable import make_folder, sync_folder, write_durably
from .failpoints import failpoint
from .frames import framed_into


class BlobFiles:
    """The folder of a workspace's large blobs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, digest: Digest) -> Path:
        """Names the file of a blob.

        Raises:
            BlobMissing: what should be a digest is none, as a damaged database may hold; it is no path to follow.
        """
        if not isinstance(digest, str) or not digest.isalnum():  # a damaged row may hold anything
            raise BlobMissing(f"{digest!r} names no blob: the log's file is damaged. Run `instar verify`.")
        return self.folder / digest[:2] / digest[2:]

    def has(self, digest: Digest) -> bool:
        """Says whether a blob is kept as a file."""
        return self.path(digest).is_file()

    def _make(self, folder: Path) -> None:
        """Makes a folder of the store; one that the store itself should lie in, and that is gone, is not made anew."""
        if not self.folder.parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.folder.parent))
        make_folder(folder)

    def all(self) -> Iterator[Digest]:
        """Names every blob that is kept as a file."""
        for folder in sorted(self.folder.glob("[0-9a-f][0-9a-f]")):
            for path in sorted(folder.glob("[0-9a-f]*")):
                yield Digest(f"{folder.name}{path.name}")

    def size(self, digest: Digest) -> int:
        """Gives the size of the file of a blob; 0 where there is none."""
        with suppress(FileNotFoundError):
            return self.path(digest).stat().st_size
        return 0

    def age_s(self, digest: Digest) -> float | None:
        """Says how many seconds ago the file of a blob was written; None where there is none."""
        with suppress(FileNotFoundError):
            return time.time() - self.path(digest).stat().st_mtime
        return None

    def write(self, digest: Digest, compressed: bytes) -> None:
        """Writes a blob's file, durable when it returns.

        Raises:
            LogUnavailable: the disk is full or read-only.
        """
        path = self.path(digest)
        try:
            self._make(path.parent)
            write_durably(path, compressed)
        except OSError as error:
            raise LogUnavailable(f"blob of {len(compressed)} bytes cannot be written to {path}: {error}") from error

    def write_parts(
        self, parts: Iterator[bytes], size: int, is_stored: Callable[[Digest], bool]
    ) -> tuple[Digest, bool]:
        """Writes ``size`` bytes that come part by part, unless the store has them already; durable when it returns.

        Returns:
            Their name, and whether they are new.

        Raises:
            LogUnavailable: the disk is full or read-only.
            Exception: what ``parts`` raises; nothing is left.
        """
        try:
            self._make(self.folder)
            fd, name = tempfile.mkstemp(dir=self.folder, prefix=".parts.")
        except OSError as error:
            raise LogUnavailable(f"a blob of {size} bytes cannot be written to {self.folder}: {error}") from error
        staged, hashed = Path(name), sha256()
        try:
            framed_into(fd, _noted(parts, hashed.update), size)
            digest = Digest(hashed.hexdigest())
            os.fsync(fd)
            if is_stored(digest):
                return digest, False
            self._make(self.path(digest).parent)
            staged.replace(self.path(digest))
            self.settle(digest)
            return digest, True
        finally:
            os.close(fd)
            with suppress(FileNotFoundError):
                staged.unlink()

    def settle(self, digest: Digest) -> None:
        """Makes a file durable that another process put there: it may have died before it could."""
        path = self.path(digest)
        with path.open("rb") as file:
            os.fsync(file.fileno())
        for folder in (path.parent, self.folder, self.folder.parent):
            sync_folder(folder)

    def remove(self, digest: Digest) -> None:
        """Removes the file of a blob durably, if there is one."""
        with suppress(FileNotFoundError):
            failpoint("blob.forgotten")
            self.path(digest).unlink()
            sync_folder(self.path(digest).parent)


def _noted(parts: Iterable[bytes], note: Callable[[bytes], object]) -> Iterator[bytes]:
    for part in parts:
        note(part)
        yield part
