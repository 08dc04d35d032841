"""What a patch made of a copy of a tree, and what of it no capture would hold."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from msgspec.structs import replace

from instar.engine.files.settled import over
from instar.fsm.errors import InputRefused
from instar.fsm.words import digest_of
from instar.store.paths import check_path, decode_path, encode_path
from instar.store.tree_nodes import MODE_BITS, Entry
from instar.store.trees import Tree, changes

from .capture import Capture
from .ignore import left_out_by
from .quick_look import GITIGNORE

_OWNER = 0o600


def widened(tree: Tree) -> Tree:
    """Gives a tree whose files their owner may all read and write: one that can be patched."""
    files = {path: replace(entry, mode=entry.mode | _OWNER) for path, entry in tree.files.items()}
    return Tree(files, tree.folders)


class Patched:
    """A copy of a tree after the patch: the tree, and whatever the patch touched, read back with no rule in force.

    Args:
        folder: the copy, written from ``widened(before)`` and then patched.
        before: the tree that stands in the workspace.
        capture: captures the workspace; the rules in force are its own.

    Attributes:
        tree: what stood before, with what the patch touched.
        too_large: the files over the cap; they are not in the tree.
        touched: every path that the patch added, changed or took away, by name.
    """

    def __init__(self, folder: Path, before: Tree, capture: Capture) -> None:
        self._folder, self._before, self._capture = folder, before, capture
        self.too_large: dict[str, str] = {}
        files: dict[str, Entry] = {}
        folders: set[str] = set()
        for path, status in _walk(folder):
            if status is None:
                folders.add(path)
            elif stat.S_ISREG(status.st_mode) and status.st_size > capture.cap_bytes:
                self.too_large[path] = over(capture.cap_bytes)
            else:
                files[path] = self._entry(path, status)
        # What was never captured stays unmanaged.
        self.tree = Tree(files, frozenset(folders), before.unmanaged)
        changed = {change.path for change in changes(before, self.tree)}
        self.touched = sorted(changed | self.too_large.keys() | (folders - before.all_folders()))

    def _entry(self, path: str, status: os.stat_result) -> Entry:
        """Describes a file or link; of a mode git keeps whether the owner may execute, and the rest stays as it was."""
        content = self.content(path)
        if stat.S_ISLNK(status.st_mode):
            return Entry("link", MODE_BITS, digest_of(content), len(content))
        found = Entry("file", status.st_mode & MODE_BITS, digest_of(content), len(content))
        known = self._before.files.get(path)
        same = known is not None and known.kind == "file" and known.mode & 0o100 == found.mode & 0o100
        return replace(found, mode=known.mode) if known is not None and same else found

    def content(self, path: str) -> bytes:
        """Reads a file or the text of a link."""
        place = self._folder / os.fsdecode(decode_path(path))
        return os.fsencode(place.readlink()) if place.is_symlink() else place.read_bytes()

    def left_out(self) -> dict[str, str]:
        """Names what the patch added or changed that no tree holds under the rules it leads to, with the reason."""
        ruled_out = self._ruled_out()
        return {
            path: reason
            for path in self.touched
            if path in self.tree.files or path in self.tree.folders or path in self.too_large
            if (reason := _unstorable(path) or self.tree.reason(path) or ruled_out(path) or self.too_large.get(path))
        }

    def hidden(self) -> list[str]:
        """Names the files that stay as they are, but that a rule of the patch has ignored from now on."""
        if not any(path.rpartition("/")[2] == GITIGNORE for path in self.touched):
            return []
        ruled_out, touched = self._ruled_out(), set(self.touched)
        return [path for path in sorted(self.tree.files) if path not in touched and ruled_out(path)]

    def _ruled_out(self) -> Callable[[str], str | None]:
        return left_out_by(self._rules_in, self._capture.ignore)

    def _rules_in(self, folder: str) -> bytes | None:
        """Gives a folder's ``.gitignore``: the patched one, or the workspace's where that itself is not captured."""
        path = f"{folder}/{GITIGNORE}" if folder else GITIGNORE
        entry = self.tree.files.get(path)
        if entry is not None:
            return self.content(path) if entry.kind == "file" else None
        if path in self._before.files:
            return None
        place = self._capture.root_place
        for name in folder.split("/") if folder else ():
            if name not in place.folders:
                return None
            place = place.folders[name]
        return place.rules.content if place.rules else None


def _unstorable(path: str) -> str | None:
    try:
        check_path(path)
    except InputRefused as error:
        return str(error)
    return None


def _walk(top: Path) -> Iterator[tuple[str, os.stat_result | None]]:
    """Yields every file and link with its status, and every empty folder without one, as trees spell paths."""
    left = [""]
    while left:
        folder = left.pop()
        with os.scandir(top / folder) as listing:
            found = list(listing)
        if folder and not found:
            yield encode_path(os.fsencode(folder)), None
        for each in found:
            path = f"{folder}/{each.name}" if folder else each.name
            if each.is_dir(follow_symlinks=False):
                left.append(path)
            else:
                yield encode_path(os.fsencode(path)), each.stat(follow_symlinks=False)
