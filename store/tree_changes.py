"""What two trees hold differently, found by their Merkle nodes: a folder whose node is the same is not read.

``changed`` gives what ``trees.changes`` gives of two trees that were read whole; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from instar.fsm.errors import BlobCorrupt, ConfigError
from instar.fsm.words import Digest

from .paths import check_path
from .tree_nodes import Entry, Node, NodeReader, encode_node
from .trees import NAMES_MAX, Change

_NOTHING = Node(files={}, folders={}, unmanaged={})


class TreeChanges(Struct, frozen=True, kw_only=True):
    """The way from one tree to another.

    Attributes:
        changes: the files and links that differ, by path; a path that the second tree saw but did not capture is none.
        made: folders without content that the second tree alone has.
        unmade: folders that the first tree alone has.
        held_back: what the first tree holds and the second saw but did not capture, with the reason.
        unmanaged: what the second tree saw but did not capture, if the first did not say the same.
    """

    changes: tuple[Change, ...] = ()
    made: tuple[str, ...] = ()
    unmade: tuple[str, ...] = ()
    held_back: dict[str, str] = {}
    unmanaged: dict[str, str] = {}


def changed(nodes: NodeReader, before: Digest | None, after: Digest) -> TreeChanges:
    """Compares two trees.

    Args:
        nodes: reads the nodes of both.
        before: the first tree; None for one that is empty.
        after: the second tree.

    Raises:
        BlobMissing, BlobCorrupt: a node is not in the store, or is none that a capture writes.
    """
    if nodes.compared is not None and nodes.compared[:2] == (before, after):
        return nodes.compared[2]
    walk = _Walk(nodes)
    walk.folder("", 0, before, after, None)
    found = TreeChanges(
        changes=tuple(sorted(walk.changes, key=lambda change: change.path)),
        made=tuple(sorted(walk.made)),
        unmade=tuple(sorted(walk.unmade)),
        held_back=walk.held_back,
        unmanaged=walk.unmanaged,
    )
    nodes.compared = before, after, found
    return found


class _Walk:
    """One pass over the folders whose nodes differ."""

    def __init__(self, nodes: NodeReader) -> None:
        self.nodes = nodes
        self.changes: list[Change] = []
        self.made: list[str] = []
        self.unmade: list[str] = []
        self.held_back: dict[str, str] = {}
        self.unmanaged: dict[str, str] = {}
        self.names = 0

    def folder(self, path: str, depth: int, before: Digest | None, after: Digest | None, reason: str | None) -> None:
        """Compares one folder; ``reason`` is why the second tree did not capture it, if it saw it."""
        if before == after:
            return
        old = self.nodes.get(before, path, depth) if before else _NOTHING
        new = self.nodes.get(after, path, depth) if after else _NOTHING
        self._count(old, new)
        if path and before is None and new.is_empty():
            self.made.append(path)
        if path and after is None:
            self.unmade.append(path)
        prefix = f"{path}/" if path else ""
        self._files(prefix, old, new, reason)
        self.unmanaged.update(
            (prefix + name, why) for name, why in new.unmanaged.items() if old.unmanaged.get(name) != why
        )
        for name in old.folders.keys() | new.folders.keys():
            if old.folders.get(name) == new.folders.get(name):
                continue
            below = reason or new.unmanaged.get(name)
            self.folder(prefix + name, depth + 1, old.folders.get(name), new.folders.get(name), below)

    def _files(self, prefix: str, old: Node, new: Node, reason: str | None) -> None:
        for name, entry in new.files.items():
            was = old.files.get(name)
            if was is not entry and was != entry:
                self.changes.append(Change(prefix + name, was, entry))
        for name, entry in old.files.items():
            if name not in new.files:
                why = reason or new.unmanaged.get(name)
                if why is None:
                    self.changes.append(Change(prefix + name, entry, None))
                else:
                    self.held_back[prefix + name] = why

    def _count(self, old: Node, new: Node) -> None:
        self.names += 2 + len(old.files) + len(old.unmanaged) + len(new.files) + len(new.unmanaged)
        if self.names > 2 * NAMES_MAX:
            raise BlobCorrupt(
                f"two trees hold over {NAMES_MAX} names each. "
                "Nothing was restored; run `instar verify` and go to another point of the log."
            )


class Found(Struct, frozen=True):
    """What stands at a path of a tree: a file or link, a folder's node, or the reason why it was not captured."""

    entry: Entry | None = None
    folder: Digest | None = None
    unmanaged: str | None = None

    @property
    def is_captured(self) -> bool:
        """Says whether the tree holds something there."""
        return self.entry is not None or self.folder is not None


def find_path(nodes: NodeReader, tree: Digest, path: str) -> Found:
    """Looks a path up in a tree; the root is the empty string.

    Raises:
        BlobMissing, BlobCorrupt: a node is not in the store, or is none that a capture writes.
    """
    found = Found(folder=tree)
    names = path.split("/") if path else []
    for depth, name in enumerate(names):
        if found.folder is None:
            return Found(unmanaged=found.unmanaged)
        node = nodes.get(found.folder, "/".join(names[:depth]), depth)
        found = Found(node.files.get(name), node.folders.get(name), node.unmanaged.get(name))
    return found


def graft(nodes: NodeReader, stock: Digest, scion: Digest, paths: Iterable[str]) -> Digest:
    """Gives the tree that one tree becomes when some paths are put back as another tree holds them; stores its nodes.

    Args:
        nodes: reads the nodes of both trees.
        stock: the tree that is changed.
        scion: the tree that the paths are taken from; what it does not hold there is taken away.
        paths: files and folders, the root as the empty string.

    Raises:
        InputRefused: a path cannot be captured.
        BlobMissing, BlobCorrupt: a node is not in the store, or is none that a capture writes.
    """
    wanted = []
    for path in paths:
        if not path:
            return scion
        check_path(path)
        wanted.append(path.split("/"))
    made = _Grafting(nodes).folder("", 0, stock, scion, wanted)
    if made is None:
        raise ConfigError("the tree would be empty")
    return made


class _Grafting:
    """Makes the nodes above the paths that are put back."""

    def __init__(self, nodes: NodeReader) -> None:
        self.nodes = nodes

    def folder(
        self, path: str, depth: int, stock: Digest | None, scion: Digest | None, wanted: list[list[str]]
    ) -> Digest | None:
        """Gives the node that a folder gets; None if it is to be no folder any more."""
        now = self.nodes.get(stock, path, depth) if stock else _NOTHING
        then = self.nodes.get(scion, path, depth) if scion else _NOTHING
        node = Node(files=dict(now.files), folders=dict(now.folders), unmanaged=dict(now.unmanaged))
        below: dict[str, list[list[str]]] = {}
        for name, *rest in wanted:
            below.setdefault(name, []).append(rest)
        for name, rests in below.items():
            if [] in rests:
                self._whole(node, then, name)
                continue
            place = f"{path}/{name}" if path else name
            made = self.folder(place, depth + 1, now.folders.get(name), then.folders.get(name), rests)
            self._set_folder(node, name, made)
        if path and node.is_empty() and (scion is None or stock is None):
            return None  # it came, or went, with what is put back
        content = encode_node(node, path)
        digest = self.nodes.blobs.put(content)
        self.nodes.keep(digest, node)
        return digest

    @staticmethod
    def _whole(node: Node, then: Node, name: str) -> None:
        node.files.pop(name, None)
        node.folders.pop(name, None)
        if name in then.files:
            node.unmanaged.pop(name, None)
            node.files[name] = then.files[name]
        elif name in then.folders:
            node.unmanaged.pop(name, None)
            node.folders[name] = then.folders[name]

    @staticmethod
    def _set_folder(node: Node, name: str, made: Digest | None) -> None:
        node.folders.pop(name, None)
        if made is not None:
            node.files.pop(name, None)
            node.unmanaged.pop(name, None)
            node.folders[name] = made
