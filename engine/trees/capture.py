"""Captures a folder as a tree: what stands there now, without following a link and without waiting for a writer."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path

from msgspec.structs import replace

from instar.engine.files.mounts import file_system
from instar.engine.files.open_beneath import OPEN_FOLDER
from instar.engine.uncollected import uncollected
from instar.fsm.errors import ConfigError, LogUnavailable
from instar.fsm.words import Digest
from instar.store.ports import BlobIntake
from instar.store.tree_nodes import Entry, Node, NodeReader, encode_node
from instar.store.trees import Tree

from .ignore import Ignore
from .intake import Intake
from .places import Place, Seen, every_place
from .scan import Scan
from .stat_cache import StatCache

CAP_BYTES = 10 * 1024 * 1024

_UNSAVED_MIN = 64
"""So few files are read again by the next process rather than all be saved."""

_KEEPS_FOLDER_TIMES = {"btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "tmpfs", "xfs", "zfs"}
"""File systems that stamp a folder whenever a name in it comes or goes; elsewhere every folder is listed."""


class Capture:
    """Scans one root again and again, reading only what may have changed.

    Args:
        root: the folder.
        blobs: where contents and tree nodes go.
        ignore: what is left out everywhere.
        cap_bytes: the largest file to capture.
        cache: what an earlier process saw.

    Attributes:
        nodes: reads tree nodes; it knows those that were written or read lately.
        root_place: what was last seen.
        trusted: whether every blob that was seen is certain to be in the store.
        cover: is told of each folder, by its path and a slash, before it is looked at.
    """

    def __init__(
        self, root: Path, blobs: BlobIntake, ignore: Ignore, cap_bytes: int = CAP_BYTES, *, cache: StatCache
    ) -> None:
        self.root = root
        self._opened = _identity(root)
        self.blobs = blobs
        self.ignore = ignore
        self.cap_bytes = cap_bytes
        self.cache = cache
        self.nodes = NodeReader(blobs)
        self.cover: Callable[[str], None] | None = None
        self._rules = f"{ignore.key} {cap_bytes}"
        rules, self.root_place = cache.load()
        self._same_rules = rules == self._rules
        self.trusted = not self.root_place.names()
        self._unsaved = 0
        self._save_from = _UNSAVED_MIN

    @cached_property
    def trusts_folders(self) -> bool:
        """Whether a folder's own times tell if a name in it came or went."""
        return file_system(self.root) in _KEEPS_FOLDER_TIMES

    def scan(self, *, full: bool = False) -> Tree:
        """Returns the tree that stands now; every blob that it names is in the store.

        Args:
            full: whether to read every file, trusting no time stamp.

        Raises:
            ConfigError: the root is no folder that can be read.
            LogUnavailable: it is gone, or no longer the one that was opened.
            InstarError, OSError: a blob could not be stored, or the machine is out of something. There is no tree then.
        """
        self.look(full=full)
        return self.tree()

    def look(self, *, full: bool = False, known: Digest | None = None) -> Digest:
        """Looks at every folder and file; returns the root of the tree that stands now, wholly stored.

        Args:
            full: whether to read every file, trusting no time stamp.
            known: a tree that the log names, so that all of it is in the store.

        Raises:
            ConfigError, InstarError, OSError: as ``scan``.
        """
        digest = self._pass(lambda scan: scan.everything(anew=not self._same_rules), full=full)
        self._same_rules = True
        if not self.trusted and digest != known and self._forget_lost():
            digest = self._pass(lambda scan: scan.everything(anew=False))
        self.trusted = True
        if self._unsaved > self._save_from:
            self._save_from = max(_UNSAVED_MIN, len(self._rows()) // 8)
            if self._unsaved > self._save_from:
                self.save()
        return digest

    def distrust(self) -> None:
        """Takes in that the store may have lost what was seen: the next look asks it for every blob."""
        self.trusted = False

    def look_at(self, paths: Mapping[str, bool]) -> Digest:
        """Looks at some paths alone; returns the root of the tree, in which all else is as it was seen last.

        Args:
            paths: relative to the root, as ``os.fsdecode`` gives them: all that changed since the last look. Of a
                folder, whether all below is looked at too, as when it came or was moved, or only the names in it.

        Raises:
            ConfigError, InstarError, OSError: as ``scan``.
        """
        if self.root_place.node is None or not self._same_rules or not self.trusted:
            return self.look()
        return self._pass(lambda scan: scan.names(paths))

    def tree(self) -> Tree:
        """Gives what was seen last as one flat tree."""
        files: dict[str, Entry] = {}
        folders: set[str] = set()
        for path, place in every_place(self.root_place):
            files.update((path + name, seen.entry) for name, seen in place.rows.items())
            if path and not (place.rows or place.folders or place.unmanaged):
                folders.add(path[:-1])
        return Tree(files=files, folders=frozenset(folders), unmanaged=self.unmanaged())

    def unmanaged(self) -> dict[str, str]:
        """Gives what was seen last but is not captured, with the reasons."""
        return {
            path + name: reason
            for path, place in every_place(self.root_place)
            for name, reason in place.unmanaged.items()
        }

    def save(self) -> None:
        """Saves what was seen, for the next process."""
        if self._unsaved:
            self.cache.save(self._rules, self.root_place)
            self._unsaved = 0

    def _pass(self, work: Callable[[Scan], None], *, full: bool = False) -> Digest:
        """Looks once; returns the root of the tree, wholly stored."""
        fd = self._open_root()
        scan = Scan(self, fd, full=full)
        try:
            with uncollected():
                work(scan)
                self._unsaved += scan.count
                return self._write(scan.intake)
        except BaseException:
            for _, place in every_place(self.root_place):  # what was to be stored may not be: list everything …
                place.seen = place.node = None
            self.distrust()  # … and ask the store for each blob
            raise
        finally:
            scan.close()
            os.close(fd)

    def _open_root(self) -> int:
        """Opens the folder that stood there at first: one that is gone, or another, is no folder without files."""
        try:
            fd = os.open(self.root, OPEN_FOLDER & ~os.O_NOFOLLOW)
        except OSError as error:
            if self._opened is not None and isinstance(error, FileNotFoundError | NotADirectoryError):
                raise self._root_gone("is gone") from error
            raise ConfigError(f"cannot read the folder {self.root}: {error.strerror}; give one that exists.") from error
        status = os.fstat(fd)
        if self._opened is not None and self._opened != (status.st_dev, status.st_ino):
            os.close(fd)
            raise self._root_gone("is no longer the one that was opened")
        return fd

    def _root_gone(self, how: str) -> LogUnavailable:
        return LogUnavailable(
            f"the folder {self.root} {how}: it was moved, deleted, replaced or unmounted. Nothing was recorded of it; "
            "put it back where it was, then start again."
        )

    def _rows(self) -> list[Seen]:
        return [seen for _, place in every_place(self.root_place) for seen in place.rows.values()]

    # ---- the store -------------------------------------------------------------------------------------------------

    def _write(self, intake: Intake) -> Digest:
        """Stores the nodes of the folders that changed, and waits for all that is on its way into the store."""
        made: list[tuple[Place, Digest]] = []
        intake.compress_beside()
        root = self.root_place.node or self._encode(self.root_place, "", made, intake)
        intake.drain()
        for place, digest in made:
            place.node = digest
        return root

    def _encode(self, place: Place, path: str, made: list[tuple[Place, Digest]], intake: Intake) -> Digest:
        """Makes the nodes of a folder and of those below it that changed, the deepest first."""
        folders = {
            name: below.node or self._encode(below, f"{path}{name}/", made, intake)
            for name, below in place.folders.items()
        }
        files = {name: seen.entry for name, seen in place.rows.items()}
        node = Node(files=files, folders=folders, unmanaged=dict(place.unmanaged))
        digest = intake.add(encode_node(node, path.removesuffix("/")))
        self.nodes.keep(digest, node)
        made.append((place, digest))
        return digest

    def _forget_lost(self) -> bool:
        """Forgets what was seen of everything that the store does not hold; says whether there was such a thing."""
        places = list(every_place(self.root_place))
        named = {seen.entry.blob for seen in self._rows()} | {place.node for _, place in places if place.node}
        lost = self.blobs.lacking(named)
        for _, place in places if lost else ():
            place.node = None
            for name, seen in place.rows.items():
                if seen.entry.blob in lost:
                    place.rows[name] = replace(seen, settled=False)
        return bool(lost)


def _identity(folder: Path) -> tuple[int, int] | None:
    """Tells a folder from every other one that may stand in its place; None where there is none."""
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
