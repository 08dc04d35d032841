"""Which blobs are versions of one another: a file's, a folder's, an effect's; the newest first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from instar.fsm.errors import BlobCorrupt, BlobMissing
from instar.fsm.events import AnyEvent
from instar.fsm.words import Digest
from instar.store.blobs import BlobStore
from instar.store.naming import below, fields_of
from instar.store.reader import LogReader

from .needs import event_of

_ALIKE = {"texts", "dataset", "logs", "plan", "log"}
"""Fields whose blobs resemble those of earlier events."""


class Versions:
    """Reads the versions of each path out of the trees of a log, in the order in which the log names them."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self._nodes: dict[str, Digest] = {}
        """The node that stood last in each folder."""
        self._found: dict[tuple[str, str], dict[Digest, None]] = {}

    @classmethod
    def of_log(cls, reader: LogReader, blobs: BlobStore) -> Versions:
        """Reads the whole log."""
        found = cls(blobs)
        for row in reader.rows():
            found.take(event_of(reader, row))
        return found

    def take(self, event: AnyEvent) -> None:
        """Takes what an event names; parts that are gone are left out."""
        for field, kind, digest in fields_of(event):
            with suppress(BlobMissing, BlobCorrupt):
                if kind == "tree":
                    self._node("", digest)
                elif field in _ALIKE:
                    self._note("field", f"{type(event).__name__}.{field}", digest)

    def _node(self, folder: str, node: Digest) -> None:
        if self._nodes.get(folder) == node:
            return
        self._nodes[folder] = node
        held = below(self._blobs, node)
        self._note("folder", folder, node)
        for name, file in held.files.items():
            self._note("file", folder + name, file.blob)
        for name, inner in held.folders.items():
            with suppress(BlobMissing, BlobCorrupt):
                self._node(f"{folder}{name}/", inner)

    def _note(self, kind: str, name: str, digest: Digest) -> None:
        versions = self._found.setdefault((kind, name), {})
        versions.pop(digest, None)
        versions[digest] = None  # a version that came back counts as the latest

    def __iter__(self) -> Iterator[list[Digest]]:
        """Yields the versions of each thing that has any, the newest first."""
        for versions in self._found.values():
            yield list(reversed(versions))
