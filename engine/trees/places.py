"""What was last seen of each folder and of each file in it; a scan compares it with what stands there now."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from msgspec import Struct

from instar.fsm.words import Digest
from instar.store.paths import decode_path
from instar.store.tree_nodes import MODE_BITS, Entry


class Seen(Struct, frozen=True, gc=False, array_like=True):
    """One file or link, as ``os.stat`` showed it when its content was ``blob``.

    Attributes:
        mode: all of ``st_mode``.
        entry: what a tree says of it.
        settled: it was older than the scan that saw it, so that its times would tell a later change (see
            ``stat_cache``).
    """

    mtime_ns: int
    ctime_ns: int
    inode: int
    mode: int
    entry: Entry
    settled: bool

    @classmethod
    def of(cls, status: os.stat_result, blob: Digest, *, settled: bool) -> Seen:
        """Notes a status and the blob of the content that it belongs to."""
        mode = status.st_mode
        if stat.S_ISLNK(mode):
            entry = Entry("link", MODE_BITS, blob, status.st_size)
        else:
            entry = Entry("file", mode & MODE_BITS, blob, status.st_size)
        return cls(status.st_mtime_ns, status.st_ctime_ns, status.st_ino, mode, entry, settled)

    def is_of(self, status: os.stat_result) -> bool:
        """Says whether ``status`` proves that the same content still stands there."""
        return (
            self.settled
            and self.ctime_ns == status.st_ctime_ns
            and self.inode == status.st_ino
            and self.mtime_ns == status.st_mtime_ns
            and self.entry.size == status.st_size
            and self.mode == status.st_mode
        )


class FolderSeen(Struct, frozen=True, gc=False, array_like=True):
    """A folder, as ``os.stat`` showed it before its names were listed; ``settled`` as in ``Seen``."""

    mtime_ns: int
    ctime_ns: int
    inode: int
    mode: int
    settled: bool

    def is_of(self, status: os.stat_result) -> bool:
        """Says whether ``status`` proves that the same names still stand in it."""
        return (
            self.settled
            and self.ctime_ns == status.st_ctime_ns
            and self.inode == status.st_ino
            and self.mtime_ns == status.st_mtime_ns
            and self.mode == status.st_mode
        )


class Rules(Struct, frozen=True, gc=False, array_like=True):
    """A folder's ``.gitignore``: what stood in it, and how it looked (None: not settled)."""

    content: bytes
    seen: Seen | None


class Place(Struct, array_like=True):
    """One folder under watch. Names are spelled as trees spell them.

    Attributes:
        seen: how the folder looked before it was listed last; None: list it.
        rows: the files and links that are captured.
        folders: the folders that are.
        unmanaged: what was seen but is not captured, with the reason.
        ignored: what the rules leave out, and whether it is a folder.
        rules: its ``.gitignore``, if that says anything.
        node: the digest of its node in the store; None where it must be written, and then so above it.
    """

    seen: FolderSeen | None = None
    rows: dict[str, Seen] = {}
    folders: dict[str, Place] = {}
    unmanaged: dict[str, str] = {}
    ignored: dict[str, bool] = {}
    rules: Rules | None = None
    node: Digest | None = None

    def names(self) -> set[str]:
        """Names all that was seen in it."""
        return {*self.rows, *self.folders, *self.unmanaged, *self.ignored}

    def take(self, name: str, seen: Seen) -> None:
        """Notes a file or link."""
        old = self.rows.get(name)
        if old is None or old.entry != seen.entry:
            self.drop(name)
            self.node = None
        self.rows[name] = seen

    def take_folder(self, name: str, below: Place) -> None:
        """Notes a folder."""
        if self.folders.get(name) is not below:
            self.drop(name)
            self.folders[name] = below
            self.node = None

    def leave_out(self, name: str, reason: str) -> None:
        """Notes what is not captured, and why."""
        if self.unmanaged.get(name) != reason:
            self.drop(name)
            self.unmanaged[name] = reason
            self.node = None

    def ignore(self, name: str, *, folder: bool) -> None:
        """Notes what the rules leave out."""
        self.drop(name)
        self.ignored[name] = folder

    def drop(self, name: str) -> None:
        """Forgets a name."""
        self.ignored.pop(name, None)
        for captured in (self.rows, self.folders, self.unmanaged):
            if name in captured:
                del captured[name]
                self.node = None


def every_place(place: Place, path: str = "") -> Iterator[tuple[str, Place]]:
    """Yields a place and all below it, each with its path and a slash; the root's is empty."""
    left = [(path, place)]
    while left:
        path, place = left.pop()
        yield path, place
        left += [(f"{path}{name}/", below) for name, below in place.folders.items()]


def raw_name(name: str) -> str:
    """Gives a name as ``os`` functions take it, from its spelling in a tree."""
    return name if name.isascii() and "%" not in name else os.fsdecode(decode_path(name))
