"""Reads everything that the log needs, and says what is missing or damaged."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from instar.fsm.codec import decode_event
from instar.fsm.errors import InstarError
from instar.fsm.state import FORM, AgentState, form_of, state_digest
from instar.fsm.words import Digest
from instar.store.blobs import BlobStore
from instar.store.reader import LogReader, Row

from .replay import replay

if TYPE_CHECKING:
    from instar.store.checkpoints import Manifest

_TREES = {"tree", "tree_before", "tree_after"}
_CHECKPOINTS = {"checkpoint", "base"}
_NO_BLOBS = {"space", "prev_hash", "payload_hash"}


class Integrity(Struct, kw_only=True):
    """What was read, and what is wrong."""

    events: int = 0
    blobs: int = 0
    blob_bytes: int = 0
    trees: int = 0
    checkpoints: int = 0
    state_snapshots: int = 0
    problems: list[str] = []


def check(reader: LogReader) -> Integrity:
    """Verifies the chain and the fold, each saved state, and each blob, tree and checkpoint that an event names."""
    found = Integrity()
    named: dict[tuple[str, Digest], int] = {}
    saved = dict(reader.saved_digests())

    def look(row: Row, state: AgentState) -> None:
        if state.head in saved:
            found.state_snapshots += 1
            if saved[state.head] != state_digest(state, form_of(saved[state.head]) or FORM):
                found.problems.append(f"the state snapshot at event {state.head} is not what the fold gives")
        for kind, digest in _digests(decode_event(row[1], row[2], row[10].encode())):
            named.setdefault((kind, digest), row[0])

    try:
        found.events = replay(reader, watch=look).events
    except InstarError as error:
        found.problems.append(str(error))
    blobs = _Counted(BlobStore(reader.path.with_name("blobs"), reader), found)
    for (kind, digest), seq in named.items():
        try:
            _read(blobs, kind, digest, found)
        except InstarError as error:
            found.problems.append(f"event {seq} needs {kind} {digest[:12]}: {error}")
    return found


def _digests(event: Any) -> Iterator[tuple[str, Digest]]:
    """Yields the blobs, trees and checkpoints that an event names, by the declared type of its fields."""
    for field in msgspec.structs.fields(event):
        value = getattr(event, field.name)
        if field.name in _NO_BLOBS or value is None:
            continue
        if "Digest" in str(field.type) and isinstance(value, str):
            kind = "tree" if field.name in _TREES else "checkpoint" if field.name in _CHECKPOINTS else "blob"
            yield kind, Digest(value)
        elif isinstance(value, tuple):
            for inner in value:
                if isinstance(inner, Struct):
                    yield from _digests(inner)


class _Counted:
    """Reads each blob once, and counts."""

    def __init__(self, blobs: BlobStore, found: Integrity) -> None:
        self._blobs = blobs
        self._found = found
        self._seen: set[Digest] = set()

    def get(self, digest: Digest) -> bytes:
        content = self._blobs.get(digest)
        if digest not in self._seen:
            self._seen.add(digest)
            self._found.blobs += 1
            self._found.blob_bytes += len(content)
        return content

    def has(self, digest: Digest) -> bool:
        return self._blobs.has(digest)

    def put(self, _content: bytes, /) -> Digest:
        raise InstarError("a verification writes nothing")

    def seen(self, digest: Digest) -> bool:
        return digest in self._seen


def _read(blobs: _Counted, kind: str, digest: Digest, found: Integrity) -> None:
    if kind == "tree":
        from instar.store.trees import read_tree

        tree = read_tree(blobs, digest)
        for entry in tree.files.values():
            if not blobs.seen(entry.blob):
                blobs.get(entry.blob)
        found.trees += 1
    elif kind == "checkpoint":
        from instar.store.checkpoints import read_manifest

        for blob in _blobs_of(read_manifest(blobs, digest)):
            if not blobs.seen(blob):
                blobs.get(blob)
        found.checkpoints += 1
    elif not blobs.seen(digest):
        blobs.get(digest)


def _blobs_of(manifest: Manifest) -> Iterator[Digest]:
    from instar.store.checkpoints import TensorFile

    for file in manifest.files:
        if isinstance(file, TensorFile):
            yield file.header
            yield from (tensor.blob for tensor in file.tensors)
        else:
            yield file.sha256
