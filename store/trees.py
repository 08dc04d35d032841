"""The code tree: a Merkle manifest, one node a folder, each node a blob of canonical JSON.

A node names the files and links of its folder, its folders by their own nodes' digests, and what was seen there but not
captured, with the reason. Equal content has equal bytes, so it has an equal digest. A folder in which there is nothing
to capture is an empty node. Modes of folders, owners, times and extended attributes are not part of a tree.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

import msgspec
from msgspec import Struct

from instar.fsm.errors import BlobCorrupt, InputRefused
from instar.fsm.words import Digest

from .paths import DEPTH_MAX, ancestors, check_name, check_path, decode_path, encode_path
from .ports import Blobs

__all__ = ["Change", "Entry", "Tree", "changes", "check_entry", "decode_path", "encode_path", "read_tree", "write_tree"]

MODE_BITS = 0o777
NAMES_MAX = 4_000_000
"""Names in one tree; a small hostile manifest can name the same folder again and again, ten times at each level."""

_DIGEST = re.compile(r"[0-9a-f]{64}")


class Entry(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """One file or link: its permission bits, the blob of its bytes (for a link: of its target's text), their number."""

    kind: Literal["file", "link"]
    mode: int
    blob: Digest
    size: int


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


class _Node(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One folder, as stored."""

    version: Literal[1] = 1
    files: dict[str, Entry]
    folders: dict[str, Digest]
    unmanaged: dict[str, str]

    def is_empty(self) -> bool:
        return not (self.files or self.folders or self.unmanaged)


_encoder = msgspec.json.Encoder(order="sorted")
_decoder = msgspec.json.Decoder(_Node)


def check_entry(entry: Entry) -> None:
    """Refuses what no capture writes.

    Raises:
        InputRefused: the mode has more than permission bits (a link has all), the size is negative, the blob no sha256.
    """
    odd_link = entry.kind == "link" and entry.mode != MODE_BITS
    if odd_link or not 0 <= entry.mode <= MODE_BITS or entry.size < 0 or not _DIGEST.fullmatch(entry.blob):
        raise InputRefused(f"{entry} is no entry of a tree; capture the folder again.")


def write_tree(blobs: Blobs, tree: Tree) -> Digest:
    """Stores a tree, one node a folder, and returns the digest of its root.

    Raises:
        InputRefused: a path climbs out, is absolute or reserved, or is a file and a folder at once.
    """
    nodes: dict[str, _Node] = {}
    for folder in ("", *tree.all_folders()):
        nodes[folder] = _Node(files={}, folders={}, unmanaged={})
    _fill(nodes, tree)
    for folder in sorted((folder for folder in nodes if folder), key=_deepest_first):
        node = nodes.pop(folder)
        parent, _, name = folder.rpartition("/")
        nodes[parent].folders[name] = blobs.put(_encode(node, folder))
    return blobs.put(_encode(nodes[""], ""))


def _fill(nodes: dict[str, _Node], tree: Tree) -> None:
    for folder in nodes:
        check_path(f"{folder}/x" if folder else "x")  # as deep as what it holds
    for path, entry in tree.files.items():
        folder, name = _split(path)
        _check_names((name,), folder)
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


def _encode(node: _Node, folder: str) -> bytes:
    _check_disjoint(node, folder)
    return _encoder.encode(node)


def _check_disjoint(node: _Node, folder: str) -> None:
    names = len(node.files) + len(node.folders) + len(node.unmanaged)
    if names != len(node.files.keys() | node.folders.keys() | node.unmanaged.keys()):
        raise InputRefused(f"a name in the folder {folder or '.'!r} stands for two things at once; capture it again.")


def read_tree(blobs: Blobs, digest: Digest) -> Tree:
    """Reads a tree back, trusting nothing in it.

    Raises:
        BlobMissing: a node is not in the store.
        BlobCorrupt: a node does not hash to its name, or is none that ``write_tree`` writes.
    """
    reader = _Reader(blobs)
    reader.take(digest, "", 0)
    return Tree(files=reader.files, folders=frozenset(reader.folders), unmanaged=reader.unmanaged)


class _Reader:
    """Walks the nodes of one tree."""

    def __init__(self, blobs: Blobs) -> None:
        self.blobs = blobs
        self.files: dict[str, Entry] = {}
        self.folders: set[str] = set()
        self.unmanaged: dict[str, str] = {}
        self.names = 0

    def take(self, digest: Digest, folder: str, depth: int) -> None:
        content = self.blobs.get(digest)
        try:
            node = self.check(content, folder, depth)
        except (InputRefused, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BlobCorrupt(
                f"the tree node {digest} (folder {folder or '.'!r}) is malformed: {error} "
                "Nothing was restored; run `instar verify` and go to another point of the log."
            ) from error
        prefix = f"{folder}/" if folder else ""
        if folder and node.is_empty():
            self.folders.add(folder)
        self.files.update((prefix + name, entry) for name, entry in node.files.items())
        self.unmanaged.update((prefix + name, reason) for name, reason in node.unmanaged.items())
        for name, below in node.folders.items():
            self.take(below, prefix + name, depth + 1)

    def check(self, content: bytes, folder: str, depth: int) -> _Node:
        node = _decoder.decode(content)
        if _encoder.encode(node) != content:
            raise InputRefused("it is not canonical JSON, or says a name twice.")
        _check_disjoint(node, folder)
        self.names += 1 + len(node.files) + len(node.unmanaged)
        if depth >= DEPTH_MAX or self.names > NAMES_MAX:
            raise InputRefused(f"the tree is deeper than {DEPTH_MAX} folders or holds over {NAMES_MAX} names.")
        _check_names((*node.files, *node.folders), folder)
        for name in node.unmanaged:
            check_name(name)
        for entry in node.files.values():
            check_entry(entry)
        return node


def _check_names(names: Iterable[str], folder: str) -> None:
    for name in names:
        check_name(name)
        if name == ".git" or (name == ".instar" and not folder):
            raise InputRefused(f"{name!r} is never captured and never restored.")


def changes(old: Tree, new: Tree) -> list[Change]:
    """Lists the paths that two trees hold differently, by path.

    A path that ``new`` saw but did not capture is left out: nobody can say that it was deleted.
    """
    before, after = old.files, new.files
    paths = [path for path, entry in after.items() if before.get(path) != entry]
    paths += [path for path in before if path not in after and new.reason(path) is None]
    return [Change(path, before.get(path), after.get(path)) for path in sorted(paths)]
