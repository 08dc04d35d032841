"""Which blobs were collected or erased, by which event: what went on purpose, and is not lost."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from instar.fsm.errors import BlobCorrupt, InstarError
from instar.fsm.events import BlobsCollected, PayloadErased
from instar.fsm.words import ORIGIN, Digest, Seq

from .reader import LogReader

_BYTES = 32


def list_digests(digests: Iterable[Digest]) -> bytes:
    """Writes the list of a collection: raw sha256 values in order, each once."""
    return b"".join(sorted({bytes.fromhex(digest) for digest in digests}))


def listed_digests(content: bytes) -> frozenset[Digest]:
    """Reads the list of a collection.

    Raises:
        BlobCorrupt: it is no such list.
    """
    found = frozenset(Digest(content[at : at + _BYTES].hex()) for at in range(0, len(content), _BYTES))
    if list_digests(found) != content:
        raise BlobCorrupt("a list of collected blobs is not in order, or names one twice: run `instar verify`")
    return found


class Collections:
    """The collections of a log, read when first asked for, and each once.

    Args:
        reader: the log.
        get: reads a blob.
    """

    def __init__(self, reader: LogReader, get: Callable[[Digest], bytes]) -> None:
        self._reader = reader
        self._get = get
        self._read_to: Seq = ORIGIN
        self._last: dict[Digest, Seq] = {}

    def at(self, digest: Digest) -> Seq | None:
        """Gives the last event that collected a blob; None if none did."""
        return self.all().get(digest)

    def all(self) -> dict[Digest, Seq]:
        """Gives, of every blob that was ever collected, the last event that did it.

        A list that cannot be read excuses nothing: what it named counts as lost.
        """
        head = self._reader.head()
        for record in self._reader.read(self._read_to + 1, head, [BlobsCollected]):
            if isinstance(record.event, BlobsCollected):
                try:
                    listed = listed_digests(self._get(record.event.blobs))
                except InstarError:
                    continue
                self._last.update(dict.fromkeys(listed, record.seq))
        self._read_to = head
        return self._last


class Erasures:
    """What the erasures of a log took out of the store, read when first asked for, and each once.

    Args:
        reader: the log.
    """

    def __init__(self, reader: LogReader) -> None:
        self._reader = reader
        self._read_to: Seq = ORIGIN
        self._by: dict[Digest, Seq] = {}

    def at(self, digest: Digest) -> Seq | None:
        """Gives the last event that erased a blob; None if none did."""
        last = self._reader.last_erasure()
        for record in self._reader.read(self._read_to + 1, last, [PayloadErased]) if last > self._read_to else ():
            if isinstance(record.event, PayloadErased):
                self._by.update(dict.fromkeys(record.event.blobs, record.seq))
        self._read_to = last
        return self._by.get(digest)
