"""No event is recorded that names a blob which another process has collected or erased since it was looked up.

Whoever stores a tree asks of each blob whether it is there, and records the event later. A collection in between takes
away what no event names yet, an erasure what stands nowhere any more. Both are events themselves, so whoever appends
sees them first, under the log's lock, and looks again at what its own events name.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from instar.fsm.errors import BlobCorrupt, BlobMissing, PositionConflict
from instar.fsm.events import AnyEvent, BlobsCollected
from instar.fsm.words import Digest

from .blobs import BlobStore
from .collected import listed_digests
from .naming import below, digests_of, parts_of_checkpoint


class Presence:
    """What was collected or erased since this process opened the log; costs nothing until something was."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self._gone: set[Digest] = set()
        self._list_is_lost = False
        self._whole: set[Digest] = set()
        """Nodes below which everything was there after the last collection."""

    def noticed(self, collection: BlobsCollected) -> None:
        """Takes a collection in: what it took is no longer known to be stored."""
        try:
            listed = listed_digests(self._blobs.get(collection.blobs))
        except (BlobMissing, BlobCorrupt):  # nobody can tell what is gone: everything is looked up again
            self._list_is_lost = True
            self._whole.clear()
            self._blobs.lost(None)
        else:
            self.gone(listed)

    def gone(self, digests: Collection[Digest]) -> None:
        """Takes in that blobs went: they are no longer known to be stored, and who has one again stores it again."""
        self._whole.clear()
        self._gone.update(digests)
        self._blobs.lost(digests)

    def check(self, events: Iterable[AnyEvent]) -> None:
        """Makes sure that everything which events name is there.

        Raises:
            PositionConflict: something was collected or erased meanwhile; nothing was recorded.
        """
        if not self._gone and not self._list_is_lost:
            return
        for event in events:
            for kind, digest in digests_of(event):
                try:
                    if kind == "tree":
                        self._check_node(digest)
                    elif kind == "checkpoint":
                        for part in parts_of_checkpoint(self._blobs, digest):
                            self._check(part)
                    else:
                        self._check(digest)
                except BlobMissing as error:
                    raise _conflict(digest) from error

    def _check_node(self, node: Digest) -> None:
        if node in self._whole:
            return
        held = below(self._blobs, node)
        for file in held.files.values():
            self._check(file.blob)
        for folder in held.folders.values():
            self._check_node(folder)
        self._whole.add(node)

    def _check(self, digest: Digest) -> None:
        if (digest in self._gone or self._list_is_lost) and not self._blobs.is_stored(digest):
            raise _conflict(digest)


def _conflict(digest: Digest) -> PositionConflict:
    return PositionConflict(
        f"blob {digest[:12]} was collected or erased after it was looked up: nothing was recorded. Look at the files "
        "again, and decide again."
    )
