"""One folder of a tree as it is stored: canonical JSON, checked when it is written and again when it is read."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

import msgspec
from msgspec import Struct

from instar.fsm.errors import BlobCorrupt, InputRefused
from instar.fsm.words import Digest

from .paths import DEPTH_MAX, check_name
from .ports import Blobs

if TYPE_CHECKING:
    from .tree_changes import TreeChanges

MODE_BITS = 0o777
_ROOT_ONLY = ".instar"
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Entry(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """One file or link: its permission bits, the blob of its bytes (for a link: of its target's text), their number."""

    kind: Literal["file", "link"]
    mode: int
    blob: Digest
    size: int


class Node(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One folder: its files and links, its folders by their own nodes, and what was seen but not captured."""

    version: Literal[1] = 1
    files: dict[str, Entry]
    folders: dict[str, Digest]
    unmanaged: dict[str, str]

    def is_empty(self) -> bool:
        """Says whether nothing was found in the folder."""
        return not (self.files or self.folders or self.unmanaged)


_encoder = msgspec.json.Encoder(order="sorted")
_decoder = msgspec.json.Decoder(Node)


def check_entry(entry: Entry) -> None:
    """Refuses what no capture writes.

    Raises:
        InputRefused: the mode has more than permission bits (a link has all), the size is negative, the blob no sha256.
    """
    odd_link = entry.kind == "link" and entry.mode != MODE_BITS
    if odd_link or not 0 <= entry.mode <= MODE_BITS or entry.size < 0 or not _DIGEST.fullmatch(entry.blob):
        raise InputRefused(f"{entry} is no entry of a tree; capture the folder again.")


def check_names(names: Iterable[str], folder: str) -> None:
    """Refuses what cannot be the name of something captured in ``folder`` (the root is the empty string).

    Raises:
        InputRefused: it cannot be a name, or is that of a folder that is never captured.
    """
    for name in names:
        check_name_in(name, folder)


def check_name_in(name: str, folder: str) -> None:
    """Refuses one name as ``check_names`` does.

    Raises:
        InputRefused: says why.
    """
    check_name(name)
    if name == ".git" or (name == _ROOT_ONLY and not folder):
        raise InputRefused(f"{name!r} is never captured and never restored.")


def encode_node(node: Node, folder: str) -> bytes:
    """Gives the bytes of a node, whose names and entries were checked by whoever made it.

    Raises:
        InputRefused: one name stands for two things.
    """
    _check_disjoint(node, folder)
    return _encoder.encode(node)


def decode_node(content: bytes, folder: str, depth: int) -> Node:
    """Reads a node, trusting nothing in it.

    Args:
        content: its bytes.
        folder: where the node stands; the root is the empty string.
        depth: how many folders are above it.

    Raises:
        InputRefused, msgspec.DecodeError, UnicodeDecodeError: no capture wrote it.
    """
    node = _decoder.decode(content)
    if _encoder.encode(node) != content:
        raise InputRefused("it is not canonical JSON, or says a name twice.")
    _check_disjoint(node, folder)
    check_place(node, folder, depth)
    check_names((*node.files, *node.folders), folder)
    for name in node.unmanaged:
        check_name(name)
    for entry in node.files.values():
        check_entry(entry)
    return node


def check_place(node: Node, folder: str, depth: int) -> None:
    """Refuses a node where it stands: too deep, or holding at the root what may only lie below.

    Raises:
        InputRefused: says which.
    """
    if depth >= DEPTH_MAX:
        raise InputRefused(f"the tree is deeper than {DEPTH_MAX} folders.")
    if not folder and (_ROOT_ONLY in node.files or _ROOT_ONLY in node.folders):
        raise InputRefused(f"{_ROOT_ONLY!r} is never captured and never restored.")


def _check_disjoint(node: Node, folder: str) -> None:
    names = len(node.files) + len(node.folders) + len(node.unmanaged)
    if names != len(node.files.keys() | node.folders.keys() | node.unmanaged.keys()):
        raise InputRefused(f"a name in the folder {folder or '.'!r} stands for two things at once; capture it again.")


class NodeReader:
    """Reads the nodes of trees, and keeps those that were read or written last: neighbouring trees share most of them.

    Args:
        blobs: where they are stored.
        names_max: how many names to keep in memory, over all nodes.
    """

    def __init__(self, blobs: Blobs, names_max: int = 400_000) -> None:
        self.blobs = blobs
        self._names_max = names_max
        self._names = 0
        self._kept: dict[Digest, Node] = {}
        self.compared: tuple[Digest | None, Digest, TreeChanges] | None = None
        """The two trees that were compared last, and what differs: a rollback asks for that when it plans and when it
        records."""

    def get(self, digest: Digest, folder: str, depth: int) -> Node:
        """Returns a node that was checked.

        Args:
            digest: its name in the store.
            folder: where it stands; the root is the empty string.
            depth: how many folders are above it.

        Raises:
            BlobMissing: it is not in the store.
            BlobCorrupt: it does not hash to its name, or no capture wrote it.
        """
        node = self._kept.get(digest)
        try:
            if node is not None:
                check_place(node, folder, depth)
                return node
            node = decode_node(self.blobs.get(digest), folder, depth)
        except (InputRefused, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BlobCorrupt(
                f"the tree node {digest} (folder {folder or '.'!r}) is malformed: {error} "
                "Nothing was restored; run `instar verify` and go to another point of the log."
            ) from error
        self.keep(digest, node)
        return node

    def keep(self, digest: Digest, node: Node) -> None:
        """Keeps a node that was checked, under the digest of its bytes."""
        if digest in self._kept:
            return
        self._names += 1 + len(node.files) + len(node.folders) + len(node.unmanaged)
        if self._names > self._names_max:
            self._kept.clear()
            self._names = 0
        self._kept[digest] = node
