"""Which blobs a log needs: what its events name, and what the trees and checkpoints among them are made of."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from instar.fsm.codec import decode_event
from instar.fsm.events import PayloadErased
from instar.fsm.words import Digest, Seq
from instar.store.naming import Kind, digests_of, parts_of_checkpoint
from instar.store.ports import Blobs
from instar.store.reader import LogReader, Row
from instar.store.trees import read_tree

__all__ = ["Kind", "Named", "NamedBlobs", "Parts", "digests_of", "erased_blobs"]

_NODES_KEPT = 4096


class Named(NamedTuple):
    """A blob, tree or checkpoint, and the first and the last event that name it."""

    kind: Kind
    digest: Digest
    seq: Seq
    last: Seq


class NamedBlobs:
    """Collects what events name; each thing once."""

    def __init__(self, reader: LogReader) -> None:
        self._reader = reader
        self._first: dict[tuple[Kind, Digest], Seq] = {}
        self._last: dict[tuple[Kind, Digest], Seq] = {}

    def take(self, row: Row) -> None:
        """Takes one raw row of the log; of an erased one, what is left of it."""
        payload = row[10] if row[10] is not None else self._reader.remains(row[0])
        for kind, digest in digests_of(decode_event(row[1], row[2], payload.encode())):
            self._first.setdefault((kind, digest), row[0])
            self._last[kind, digest] = row[0]

    def __iter__(self) -> Iterator[Named]:
        for (kind, digest), seq in self._first.items():
            yield Named(kind, digest, seq, self._last[kind, digest])


def erased_blobs(reader: LogReader) -> frozenset[Digest]:
    """Names the blobs that are gone on purpose."""
    events = (record.event for record in reader.read(types=[PayloadErased]))
    return frozenset(digest for event in events if isinstance(event, PayloadErased) for digest in event.blobs)


class Parts:
    """Takes trees and checkpoints apart into their blobs."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._nodes = _Nodes(blobs)

    def of(self, kind: Kind, digest: Digest) -> Iterator[Digest]:
        """Yields every blob that a named thing is made of, its own nodes and manifests first.

        Raises:
            BlobMissing, BlobCorrupt: a node or manifest is not there, or not what it should be.
        """
        if kind == "tree":
            self._nodes.read.clear()
            tree = read_tree(self._nodes, digest)
            yield from self._nodes.read
            yield from dict.fromkeys(entry.blob for entry in tree.files.values())
        elif kind == "checkpoint":
            yield from parts_of_checkpoint(self._blobs, digest)
        else:
            yield digest


class _Nodes:
    """Reads the nodes of trees, which share most of them from one tree to the next; notes which it was asked for."""

    def __init__(self, blobs: Blobs) -> None:
        self.read: dict[Digest, None] = {}
        self._blobs = blobs
        self._kept = lru_cache(_NODES_KEPT)(blobs.get)

    def get(self, digest: Digest) -> bytes:
        self.read[digest] = None
        return self._kept(digest)

    def has(self, digest: Digest) -> bool:
        return self._blobs.has(digest)

    def put(self, content: bytes, /) -> Digest:
        return self._blobs.put(content)
