"""What stored blobs are: code, trees, checkpoints, vectors, data sets, outputs; told by the events that name them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

from msgspec import Struct

from instar.fsm.errors import BlobCorrupt, BlobMissing
from instar.fsm.events import AnyEvent
from instar.fsm.words import Digest
from instar.store.blobs import BlobStore
from instar.store.naming import Kind, below, digests_of, fields_of, parts_of_checkpoint
from instar.store.ports import Blobs
from instar.store.read_ahead import ReadAhead
from instar.store.reader import LogReader

from .needs import event_of

NAMELESS = "named by no event"
_FIELDS = {
    "before": "code",
    "after": "code",
    "blob": "code",
    "vectors": "vectors",
    "texts": "embedded texts",
    "text": "differences",
    "log": "captured outputs",
    "logs": "data sets",
    "dataset": "data sets",
    "plan": "plans",
    "patch": "patches",
    "blobs": "lists of what was collected",
}
_OTHER = "other"


class Size(Struct, frozen=True, order=True):
    """How many blobs, and the bytes that they take in the store."""

    count: int = 0
    bytes: int = 0


class Kinds:
    """Tells the kind of each blob; what is named as two kinds counts as the first."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._of: dict[Digest, str] = {}
        self._walked: set[Digest] = set()

    @classmethod
    def of_log(cls, reader: LogReader, blobs: BlobStore) -> Kinds:
        """Reads the whole log."""
        ahead = ReadAhead(blobs)
        found = cls(ahead)
        for rows in reader.chunks():
            found.take_all(ahead, [event_of(reader, row) for row in rows])
        return found

    def take_all(self, ahead: ReadAhead, events: Sequence[AnyEvent]) -> None:
        """Takes what some events name, their trees read ahead by the store that this one has."""
        ahead.trees(digest for event in events for kind, digest in digests_of(event) if kind == "tree")
        for event in events:
            self.take(event)

    def take(self, event: AnyEvent) -> None:
        """Takes what an event names; parts that are gone or damaged are left out."""
        for field, kind, digest in fields_of(event):
            if kind != "blob" and digest in self._walked:
                continue
            with suppress(BlobMissing, BlobCorrupt):
                self._take(field, kind, digest)

    def _take(self, field: str, kind: Kind, digest: Digest) -> None:
        if kind == "tree":
            self._node(digest)
        elif kind == "checkpoint":
            self._walked.add(digest)
            for part in parts_of_checkpoint(self._blobs, digest):
                self._of.setdefault(part, "checkpoints")
        else:
            self._of.setdefault(digest, _FIELDS.get(field, _OTHER))

    def _node(self, node: Digest) -> None:
        if node in self._walked:
            return
        self._walked.add(node)
        self._of.setdefault(node, "tree nodes")
        held = below(self._blobs, node)
        for file in held.files.values():
            self._of.setdefault(file.blob, "code")
        for folder in held.folders.values():
            with suppress(BlobMissing, BlobCorrupt):
                self._node(folder)

    def of(self, digest: Digest) -> str:
        """Tells the kind of a blob."""
        return self._of.get(digest, NAMELESS)

    def sizes(self, stored: Mapping[Digest, int], among: Iterable[Digest] | None = None) -> dict[str, Size]:
        """Adds up stored bytes by kind, the largest first.

        Args:
            stored: the bytes that each stored blob takes.
            among: which blobs; all that are stored by default.
        """
        found: dict[str, Size] = {}
        for digest in stored if among is None else among:
            kind = self.of(digest)
            size = found.get(kind, Size())
            found[kind] = Size(size.count + 1, size.bytes + stored[digest])
        return dict(sorted(found.items(), key=lambda pair: -pair[1].bytes))


def stored_bytes(reader: LogReader, blobs: BlobStore) -> dict[Digest, int]:
    """Gives the bytes that each stored blob takes, in the database or as a file."""
    found = {digest: stored for digest, _, stored, _ in reader.stored_forms()}
    for digest in blobs.files():
        found[digest] = found.get(digest, 0) + blobs.file_bytes(digest)
    return found
