"""Which blobs a log needs: what its events name, and what the trees and checkpoints among them are made of."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, lru_cache
from typing import Any, Literal, NamedTuple, get_args

import msgspec
from msgspec import Struct

from instar.fsm.codec import decode_event
from instar.fsm.events import PayloadErased
from instar.fsm.words import Digest, Seq
from instar.store.manifest import TensorFile, read_manifest
from instar.store.ports import Blobs
from instar.store.reader import LogReader, Row
from instar.store.trees import read_tree

Kind = Literal["blob", "tree", "checkpoint"]

_TREES = {"tree", "tree_before", "tree_after"}
_CHECKPOINTS = {"checkpoint", "base"}
_NO_BLOBS = {"space", "prev_hash", "payload_hash"}
_NODES_KEPT = 4096


class Named(NamedTuple):
    """A blob, tree or checkpoint, and the first event that names it."""

    kind: Kind
    digest: Digest
    seq: Seq


class NamedBlobs:
    """Collects what events name; each thing once."""

    def __init__(self, reader: LogReader) -> None:
        self._reader = reader
        self._first: dict[tuple[Kind, Digest], Seq] = {}

    def take(self, row: Row) -> None:
        """Takes one raw row of the log; of an erased one, what is left of it."""
        payload = row[10] if row[10] is not None else self._reader.remains(row[0])
        for kind, digest in digests_of(decode_event(row[1], row[2], payload.encode())):
            self._first.setdefault((kind, digest), row[0])

    def __iter__(self) -> Iterator[Named]:
        for (kind, digest), seq in self._first.items():
            yield Named(kind, digest, seq)


def erased_blobs(reader: LogReader) -> frozenset[Digest]:
    """Names the blobs that are gone on purpose."""
    events = (record.event for record in reader.read(types=[PayloadErased]))
    return frozenset(digest for event in events if isinstance(event, PayloadErased) for digest in event.blobs)


def digests_of(event: Struct) -> Iterator[tuple[Kind, Digest]]:
    """Yields the blobs, trees and checkpoints that an event names, by the declared type of its fields."""
    for name, kind in _fields(type(event)):
        value = getattr(event, name)
        for inner in value if isinstance(value, tuple) else (value,):
            if isinstance(inner, Struct):
                yield from digests_of(inner)
            elif isinstance(inner, str):
                yield kind, Digest(inner)


@cache
def _fields(struct: type[Struct]) -> tuple[tuple[str, Kind], ...]:
    """Finds the fields of a type in which a digest can stand, itself or in what they hold."""
    if struct is PayloadErased:  # what it names is gone
        return ()
    found: list[tuple[str, Kind]] = []
    for field in msgspec.structs.fields(struct):
        if field.name not in _NO_BLOBS and _can_hold(field.type):
            kind: Kind = "tree" if field.name in _TREES else "checkpoint" if field.name in _CHECKPOINTS else "blob"
            found.append((field.name, kind))
    return tuple(found)


def _can_hold(declared: Any) -> bool:
    """Says whether a digest can stand in a value of a declared type."""
    if isinstance(declared, type) and issubclass(declared, Struct):
        return bool(_fields(declared))
    return declared is Digest or any(map(_can_hold, get_args(declared)))


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
            manifest = read_manifest(self._blobs, digest)
            yield digest
            for file in manifest.files:
                if isinstance(file, TensorFile):
                    yield file.header
                    yield from (tensor.blob for tensor in file.tensors)
                else:
                    yield file.sha256
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
