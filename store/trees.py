"""The code tree: a Merkle manifest, one node a folder, each node a blob of canonical JSON.

A node names the files and links of its folder, its folders by their own nodes' digests, and what was seen there but not
captured, with the reason. Equal content has equal bytes, so it has an equal digest. A folder in which there is nothing
to capture is an empty node. Modes of folders, owners, times and extended attributes are not part of a tree.
"""

from __future__ import annotations

from msgspec import Struct

from instar.fsm.errors import BlobCorrupt, InputRefused
from instar.fsm.words import Digest

from .paths import ancestors, check_name, check_path, decode_path, encode_path
from .ports import Blobs
from .tree_nodes import MODE_BITS, Entry, Node, NodeReader, check_entry, check_name_in, encode_node

__all__ = [
    "MODE_BITS",
    "Change",
    "Entry",
    "Tree",
    "changes",
    "check_entry",
    "decode_path",
    "encode_path",
    "read_tree",
    "write_tree",
]

NAMES_MAX = 4_000_000
"""Names in one tree; a small hostile manifest can name the same folder again and again, ten times at each level."""


class Tree(Struct, frozen=True):
    """A folder's captured content, by path as ``encode_path`` spells it.

    Attributes:
        files: files and links.
        folders: the folders in which nothing was captured.
        unmanaged: what was seen but not captured, with the reason; a restore leaves it alone.
    """

    files: dict[str, Entry]
    folders: frozenset[str] = frozenset()
    unmanaged: dict[str, str] = {}

    def reason(self, path: str) -> str | None:
        """Says why ``path``, or a folder above it, was seen but not captured."""
        if not self.unmanaged:
            return None
        found = self.unmanaged.get(path)
        return found or next((self.unmanaged[above] for above in ancestors(path) if above in self.unmanaged), None)

    def all_folders(self) -> set[str]:
        """Names every folder that this tree implies."""
        found: set[str] = set()
        for path in (*self.files, *self.unmanaged, *self.folders):
            for above in ancestors(path):
                if above in found:  # so are all above it
                    break
                found.add(above)
        return found | self.folders


class Change(Struct, frozen=True):
    """One path that two trees hold differently; None where it is absent."""

    path: str
    before: Entry | None
    after: Entry | None


def write_tree(blobs: Blobs, tree: Tree) -> Digest:
    """Stores a tree, one node a folder, and returns the digest of its root.

    Raises:
        InputRefused: a path climbs out, is absolute or reserved, or is a file and a folder at once.
    """
    nodes: dict[str, Node] = {}
    for folder in ("", *tree.all_folders()):
        nodes[folder] = Node(files={}, folders={}, unmanaged={})
    _fill(nodes, tree)
    for folder in sorted((folder for folder in nodes if folder), key=_deepest_first):
        node = nodes.pop(folder)
        parent, _, name = folder.rpartition("/")
        nodes[parent].folders[name] = blobs.put(encode_node(node, folder))
    return blobs.put(encode_node(nodes[""], ""))


def _fill(nodes: dict[str, Node], tree: Tree) -> None:
    for folder in nodes:
        check_path(f"{folder}/x" if folder else "x")  # as deep as what it holds
    for path, entry in tree.files.items():
        folder, name = _split(path)
        check_name_in(name, folder)
        check_entry(entry)
        nodes[folder].files[name] = entry
    for path, reason in tree.unmanaged.items():
        folder, name = _split(path)
        check_name(name)
        nodes[folder].unmanaged[name] = reason


def _split(path: str) -> tuple[str, str]:
    folder, slash, name = path.rpartition("/")
    if slash and not folder:
        raise InputRefused(f"{path!r} is absolute; name it from the root of the tree.")
    return folder, name


def _deepest_first(folder: str) -> tuple[int, str]:
    return -folder.count("/"), folder


def read_tree(blobs: Blobs, digest: Digest, nodes: NodeReader | None = None) -> Tree:
    """Reads a tree back, trusting nothing in it.

    Args:
        blobs: where its nodes are stored.
        digest: its root.
        nodes: reads the nodes and may know some of them already.

    Raises:
        BlobMissing: a node is not in the store.
        BlobCorrupt: a node does not hash to its name, or is none that ``write_tree`` writes.
    """
    reader = _Reader(nodes or NodeReader(blobs))
    reader.take(digest, "", 0)
    return Tree(files=reader.files, folders=frozenset(reader.folders), unmanaged=reader.unmanaged)


class _Reader:
    """Walks the nodes of one tree."""

    def __init__(self, nodes: NodeReader) -> None:
        self.nodes = nodes
        self.files: dict[str, Entry] = {}
        self.folders: set[str] = set()
        self.unmanaged: dict[str, str] = {}
        self.names = 0

    def take(self, digest: Digest, folder: str, depth: int) -> None:
        node = self.nodes.get(digest, folder, depth)
        self.names += 1 + len(node.files) + len(node.unmanaged)
        if self.names > NAMES_MAX:
            raise BlobCorrupt(
                f"the tree at its node {digest} holds over {NAMES_MAX} names. "
                "Nothing was restored; run `instar verify` and go to another point of the log."
            )
        prefix = f"{folder}/" if folder else ""
        if folder and node.is_empty():
            self.folders.add(folder)
        self.files.update((prefix + name, entry) for name, entry in node.files.items())
        self.unmanaged.update((prefix + name, reason) for name, reason in node.unmanaged.items())
        for name, below in node.folders.items():
            self.take(below, prefix + name, depth + 1)


def changes(old: Tree, new: Tree) -> list[Change]:
    """Lists the paths that two trees hold differently, by path.

    A path that ``new`` saw but did not capture is left out: nobody can say that it was deleted.
    """
    before, after = old.files, new.files
    paths = [path for path, entry in after.items() if before.get(path) != entry]
    paths += [path for path in before if path not in after and new.reason(path) is None]
    return [Change(path, before.get(path), after.get(path)) for path in sorted(paths)]
