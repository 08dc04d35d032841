"""Reads every blob of every tree, each folder once: a thousand trees share nearly all of what they are made of."""

from __future__ import annotations

from collections.abc import Callable

from instar.fsm.words import Digest
from instar.store.ports import Blobs
from instar.store.tree_nodes import NodeReader


class WholeTrees:
    """Goes through trees; a folder below which all was in order is not gone through again.

    Args:
        blobs: the store.
        read: reads one blob, and raises where it cannot be read.
    """

    def __init__(self, blobs: Blobs, read: Callable[[Digest], object]) -> None:
        self._nodes = NodeReader(blobs, names_max=0)
        self._read = read
        self._whole: set[Digest] = set()

    def check(self, root: Digest) -> None:
        """Reads all of a tree that was not read before.

        Raises:
            BlobMissing, BlobCorrupt: of the first node or file that is not as it should be.
        """
        self._check(root, "", 0)

    def _check(self, digest: Digest, folder: str, depth: int) -> None:
        if digest in self._whole and folder:
            return
        node = self._nodes.get(digest, folder, depth)
        self._read(digest)
        for entry in node.files.values():
            self._read(entry.blob)
        for name, below in node.folders.items():
            self._check(below, f"{folder}/{name}" if folder else name, depth + 1)
        self._whole.add(digest)
