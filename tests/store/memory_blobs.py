"""The small fake of the blob port."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence

from instar.fsm.errors import BlobMissing
from instar.fsm.words import Digest, digest_of


class OneByOne(ABC):
    """What every fake gives in terms of one blob at a time."""

    @abstractmethod
    def put(self, content: bytes) -> Digest: ...

    @abstractmethod
    def has(self, digest: Digest) -> bool: ...

    def prepared(self, hashed: Sequence[tuple[Digest, bytes]]) -> Callable[[], None]:
        def store() -> None:
            for digest, content in hashed:
                assert self.put(content) == digest

        return store

    def put_parts(self, parts: Iterator[bytes], size: int) -> Digest:
        content = b"".join(parts)
        assert len(content) == size
        return self.put(content)

    def lacking(self, digests: Iterable[Digest]) -> set[Digest]:
        return {digest for digest in digests if not self.has(digest)}


class MemoryBlobs(OneByOne):
    def __init__(self) -> None:
        self.contents: dict[Digest, bytes] = {}

    def put(self, content: bytes) -> Digest:
        digest = digest_of(content)
        self.contents[digest] = content
        return digest

    def get(self, digest: Digest) -> bytes:
        try:
            return self.contents[digest]
        except KeyError:
            raise BlobMissing(f"no blob {digest}") from None

    def has(self, digest: Digest) -> bool:
        return digest in self.contents
