"""Content-addressed bytes, compressed with zstd.

Under 1 MiB a blob lies in the database and is written in the transaction of the event that names it; a larger one is
a file, durable before the event commits. Nothing is ever hard-linked out of the store.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import zstandard

from instar.fsm.errors import BlobCollected, BlobCorrupt, BlobErased, BlobMissing
from instar.fsm.words import Digest, Seq, digest_of

from .blob_files import BlobFiles
from .collected import Collections, Erasures
from .frames import frame, frames
from .packing import DEPTH_MAX, base_of, is_pressed, unpack, unpack_plain
from .reader import LogReader

FILE_BYTES_MIN = 1 << 20
WAITING_BYTES_MAX = 4 << 20
_ATTEMPTS = 4


class BlobStore:
    """The blobs of one workspace; safe to share between threads."""

    def __init__(self, folder: Path, reader: LogReader) -> None:
        self._files = BlobFiles(folder)
        self._reader = reader
        self._waiting: dict[Digest, tuple[int, bytes]] = {}
        self._waiting_bytes = 0
        self.on_full: Callable[[], None] = lambda: None
        """Makes what waits durable, ahead of the event that will name it."""
        self._durable: set[Digest] = set()
        """Known to be stored: a scan of thousands of unchanged files asks about each of them."""
        self._losses = 0
        """How often blobs were collected or erased."""
        self._all_own: bool | None = None
        """Whether the database held none when first asked, so that all in it are known here, but for what others store
        meanwhile, which does no harm when it is stored again; None: not yet asked."""
        self._lock = threading.Lock()
        self._emptying = threading.Lock()
        self._collections = Collections(reader, self.get)
        self._erasures = Erasures(reader)

    def put(self, content: bytes) -> Digest:
        """Stores bytes under their sha256; storing the same bytes again does nothing.

        Raises:
            LogUnavailable: the disk is full or read-only.
        """
        digest = digest_of(content)
        if not self._known(digest):
            self._put_new(digest, content)
        return digest

    def _put_new(self, digest: Digest, content: bytes) -> None:
        if len(content) < FILE_BYTES_MIN:
            self._let_wait([(digest, len(content), frame(content))])
            return
        if self._files.has(digest):
            self._files.settle(digest)
        else:
            self._files.write(digest, frame(content))
        self._note_durable(digest)

    def _note_durable(self, digest: Digest) -> None:
        with self._lock:
            self._durable.add(digest)

    def _let_wait(self, made: Iterable[tuple[Digest, int, bytes]]) -> None:
        with self._lock:
            for digest, size, compressed in made:
                if digest not in self._waiting:  # another thread may have had the same
                    self._waiting[digest] = (size, compressed)
                    self._waiting_bytes += len(compressed)

    def prepared(self, hashed: Sequence[tuple[Digest, bytes]]) -> Callable[[], None]:
        """Asks once which of several contents are new, each given with its sha256.

        Returns:
            What stores them, to be called once, by any thread. What waits is made durable now and then, so it is not
            for whoever holds the log. It raises LogUnavailable if the disk is full or read-only.
        """
        known = self._met_among([digest for digest, _ in hashed])
        new = {digest: content for digest, content in hashed if digest not in known}
        return partial(self._put_all, new)

    def _put_all(self, new: Mapping[Digest, bytes]) -> None:
        small = {digest: content for digest, content in new.items() if len(content) < FILE_BYTES_MIN}
        made = frames(list(small.values()))
        self._let_wait((digest, len(small[digest]), each) for digest, each in zip(small, made, strict=True))
        for digest, content in new.items():
            if digest not in small:
                self._put_new(digest, content)
        if self._waiting_bytes > WAITING_BYTES_MAX and self._emptying.acquire(blocking=False):
            try:
                self.on_full()  # one thread does, the others go on
            finally:
                self._emptying.release()

    def put_parts(self, parts: Iterator[bytes], size: int) -> Digest:
        """Stores ``size`` bytes, at least ``FILE_BYTES_MIN``, that need not be in memory at once.

        Raises:
            LogUnavailable: the disk is full or read-only.
            Exception: what ``parts`` raises; nothing was stored.
        """
        digest, is_new = self._files.write_parts(parts, size, self.has)
        if is_new:
            self._note_durable(digest)
        return digest

    def lacking(self, digests: Iterable[Digest]) -> set[Digest]:
        """Says which of some blobs are neither stored nor on their way; for many at once far quicker than ``has``."""
        asked = set(digests)
        return {each for each in asked - self._known_among(asked) if not self._files.has(each)}

    def _met_among(self, digests: Collection[Digest]) -> set[Digest]:
        """As ``_known_among``; may leave out what another process has stored."""
        if self._all_own is None:
            self._all_own = not self._reader.any_blobs()
        if not self._all_own:
            return self._known_among(digests)
        with self._lock:
            return {each for each in digests if each in self._durable or each in self._waiting}

    def _known_among(self, digests: Collection[Digest]) -> set[Digest]:
        """As ``_known``, for many at once."""
        with self._lock:
            known = {each for each in digests if each in self._durable or each in self._waiting}
            losses = self._losses
        asked = [each for each in digests if each not in known]
        found = self._reader.blobs_known(asked)
        with self._lock:
            if losses == self._losses:  # else they may be gone since
                self._durable |= found
        return known | found

    def get(self, digest: Digest) -> bytes:
        """Returns the bytes, verified.

        Raises:
            BlobMissing: nothing is stored under this name.
            BlobCorrupt: what is stored does not hash to its name.
        """
        try:
            content = self._unpacked(digest)
        except zstandard.ZstdError as error:
            raise BlobCorrupt(self._damaged(digest)) from error
        if digest_of(content) != digest:
            raise BlobCorrupt(self._damaged(digest))
        return content

    def get_many(self, digests: Sequence[Digest]) -> list[bytes]:
        """Returns the bytes of several blobs, each as ``get`` does; asks for all of them at once.

        Raises:
            BlobMissing, BlobCorrupt: as ``get``.
        """
        with self._lock:
            stored = {each: self._waiting[each][1] for each in digests if each in self._waiting}
        stored |= self._reader.blobs([each for each in digests if each not in stored])
        plain = {digest: form for digest, form in stored.items() if not is_pressed(form)}
        try:
            contents = dict(zip(plain, unpack_plain(list(plain.values())), strict=True))
        except zstandard.ZstdError:
            contents = {}  # asked for alone, each says whether it is the damaged one
        for digest, content in contents.items():
            if digest_of(content) != digest:
                raise BlobCorrupt(self._damaged(digest))
        return [contents[each] if each in contents else self.get(each) for each in digests]

    def _unpacked(self, digest: Digest) -> bytes:
        """Reads a blob, and first those that it is stored against; whoever asked verifies the last, and so all."""
        forms = self._chain(digest)
        content = unpack(forms.pop(), b"")
        while forms:
            content = unpack(forms.pop(), content)
        return content

    def _chain(self, digest: Digest) -> list[bytes]:
        """Gives the stored form of a blob, then that of the one that it is stored against, and so on."""
        for _ in range(_ATTEMPTS):
            forms = [self._stored(digest)]
            base = base_of(forms[0])
            try:
                while base is not None and len(forms) <= DEPTH_MAX:
                    forms.append(self._stored(base))
                    base = base_of(forms[-1])
            except BlobMissing:
                continue  # one of them was stored otherwise meanwhile, and needs its base no more
            if base is None:
                return forms
        raise BlobCorrupt(self._damaged(digest))

    def rests_on(self, digest: Digest) -> list[Digest]:
        """Names the blobs that one is stored against, the nearest first."""
        bases = [base_of(stored) for stored in self._chain(digest)]
        return [base for base in bases if base is not None]

    def has(self, digest: Digest) -> bool:
        """Says whether something is stored under this name."""
        return self._known(digest) or self._files.has(digest)

    def _known(self, digest: Digest) -> bool:
        """Says whether a blob is certain to be durable, or to become so with the next append."""
        with self._lock:
            if digest in self._durable or digest in self._waiting:
                return True
            losses = self._losses
        if not self._reader.blob_known(digest):
            return False
        with self._lock:
            if losses == self._losses:  # else it may be gone since
                self._durable.add(digest)
        return True

    def is_stored(self, digest: Digest) -> bool:
        """Looks whether something is stored under this name, or will be with the next append, whatever was known."""
        with self._lock:
            if digest in self._waiting:
                return True
        return self._reader.blob_known(digest) or self._files.has(digest)

    def lost(self, digests: Iterable[Digest] | None) -> None:
        """Takes in that blobs, any of them for None, went: whether they are stored is to be looked up."""
        with self._lock:
            self._losses += 1
            self._durable.difference_update(self._durable.copy() if digests is None else digests)

    def collected(self) -> dict[Digest, Seq]:
        """Gives, of every blob that was ever collected, the last event that did it."""
        return self._collections.all()

    def any_waiting(self) -> bool:
        """Says whether blobs go into the database with the next append."""
        return bool(self._waiting)

    def waiting(self) -> dict[Digest, tuple[int, bytes]]:
        """Small blobs, as (size, compressed), that go into the database with the next append."""
        with self._lock:
            return dict(self._waiting)

    def settled(self, digests: list[Digest]) -> None:
        """Forgets waiting blobs that a transaction has made durable."""
        with self._lock:
            for digest in digests:
                gone = self._waiting.pop(digest, None)
                self._waiting_bytes -= len(gone[1]) if gone else 0
            self._durable.update(digests)

    def forget(self, digests: Iterable[Digest]) -> None:
        """Removes the files of erased or collected blobs; what lay in the database went with the event."""
        for digest in digests:
            self.withdraw([digest])
            with self._lock:
                self._durable.discard(digest)
            self._files.remove(digest)

    def withdraw(self, digests: Iterable[Digest]) -> None:
        """Leaves those out that still wait for an append: no event is going to name them."""
        with self._lock:
            for digest in digests:
                gone = self._waiting.pop(digest, None)
                self._waiting_bytes -= len(gone[1]) if gone else 0

    def is_file(self, digest: Digest) -> bool:
        """Says whether a blob is kept as a file."""
        return self._files.has(digest)

    def file_bytes(self, digest: Digest) -> int:
        """Gives the size of the file of a blob; 0 where there is none."""
        return self._files.size(digest)

    def file_age_s(self, digest: Digest) -> float | None:
        """Says how many seconds ago the file of a blob was written; None where there is none."""
        return self._files.age_s(digest)

    def files(self) -> Iterable[Digest]:
        """Names every blob that is kept as a file."""
        return self._files.all()

    def _stored(self, digest: Digest) -> bytes:
        """Gives the stored form of a blob."""
        with self._lock:
            if digest in self._waiting:
                return self._waiting[digest][1]
        path = self._files.path(digest)  # before a database is asked for what may be no digest
        content = self._reader.blob(digest)
        if content is not None:
            return content
        try:
            return path.read_bytes()
        except FileNotFoundError:
            raise self._missing(digest) from None

    def _missing(self, digest: Digest) -> BlobMissing:
        collected = self._collections.at(digest)
        if collected is not None:
            return BlobCollected(
                f"blob {digest} was collected by event {collected}, as no event that was to be kept needed it: there "
                f"is no way back to it. `instar show {collected}` says what was kept.",
                collected,
            )
        erased = self._erasures.at(digest)
        if erased is not None:
            return BlobErased(
                f"blob {digest} was erased by event {erased}: there is no way back to it. `instar show {erased}` says "
                "on whose request.",
                erased,
            )
        return BlobMissing(
            f"blob {digest} is not in the store at {self._files.folder}. Run `instar verify` to see what needs it."
        )

    def _damaged(self, digest: Digest) -> str:
        return (
            f"blob {digest} does not hash to its name. Run `instar verify` to see what needs it; nothing was changed."
        )
