"""Captures a folder as a tree: what stands there now, without following a link and without waiting for a writer."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from instar.fsm.errors import ConfigError
from instar.fsm.words import Digest, digest_of
from instar.store.paths import DEPTH_MAX, encode_path
from instar.store.ports import Blobs
from instar.store.trees import MODE_BITS, Entry, Tree

from .beneath import OPEN_FOLDER
from .ignore import SECRET, Ignore, Scope
from .settled import Content, read_settled, unreadable
from .stat_cache import Seen, StatCache

CAP_BYTES = 10 * 1024 * 1024


class Capture:
    """Scans one root again and again, reading only what may have changed."""

    def __init__(
        self, root: Path, blobs: Blobs, ignore: Ignore, cap_bytes: int = CAP_BYTES, *, cache: StatCache
    ) -> None:
        self.root = root
        self.blobs = blobs
        self.ignore = ignore
        self.cap_bytes = cap_bytes
        self.cache = cache

    def scan(self, *, full: bool = False) -> Tree:
        """Returns the tree that stands now; every blob that it names is in the store.

        Args:
            full: whether to read every file, trusting no time stamp.

        Raises:
            ConfigError: the root is no folder that can be read.
            InstarError, OSError: a blob could not be stored, or the machine is out of something. There is no tree then.
        """
        scanned_at_ns = self.cache.now_ns()
        try:
            fd = os.open(self.root, OPEN_FOLDER & ~os.O_NOFOLLOW)
        except OSError as error:
            raise ConfigError(f"cannot read the folder {self.root}: {error.strerror}; give one that exists.") from error
        try:
            scan = _Scan(self, os.fstat(fd).st_dev, full)
            scan.folder(fd, "", "", self.ignore.scope(), 1)
        finally:
            os.close(fd)
        if scan.read or len(scan.rows) != len(self.cache.rows):
            self.cache.replace(scan.rows, scanned_at_ns)
        return Tree(files=scan.files, folders=frozenset(scan.folders), unmanaged=scan.unmanaged)


class _Scan:
    """One pass over the root."""

    def __init__(self, capture: Capture, device: int, full: bool) -> None:
        self.blobs, self.cache, self.cap_bytes = capture.blobs, capture.cache, capture.cap_bytes
        self.device = device
        self.full = full
        self.files: dict[str, Entry] = {}
        self.folders: set[str] = set()
        self.unmanaged: dict[str, str] = {}
        self.rows: dict[str, Seen] = {}
        self.present: set[Digest] = set()
        self.read = 0

    def folder(self, fd: int, raw: str, path: str, scope: Scope, depth: int) -> None:
        """Takes what a folder holds.

        Args:
            fd: the folder, open.
            raw: its path and a slash as the file system spells them, for the rules; empty for the root.
            path: the same as trees spell it.
            scope: the rules in force around it.
            depth: how many names a path in it has.
        """
        before = len(self.files) + len(self.folders) + len(self.unmanaged)
        with os.scandir(fd) as listing:
            found = list(listing)
        if any(each.name == ".gitignore" for each in found):
            scope = self._enter(fd, raw, scope)
        for each in found:
            self._one(fd, each, raw, path, scope, depth)
        if raw and before == len(self.files) + len(self.folders) + len(self.unmanaged):
            self.folders.add(path[:-1])

    def _one(self, fd: int, each: os.DirEntry[str], raw: str, path: str, scope: Scope, depth: int) -> None:
        name = each.name
        path += name if name.isascii() and "%" not in name else encode_path(os.fsencode(name))
        if name == ".git" and raw:
            self.unmanaged[path] = "nested .git"
            return
        try:
            is_folder = each.is_dir(follow_symlinks=False)
        except OSError as error:
            self.unmanaged[path] = unreadable(error)
            return
        verdict = scope.verdict(raw + name, folder=is_folder)
        if verdict == SECRET:
            self.unmanaged[path] = SECRET
        elif verdict is None and is_folder:
            self._below(fd, name, raw + name, path, scope, depth)
        elif verdict is None:
            self._leaf(fd, each, path)

    def _below(self, fd: int, name: str, raw: str, path: str, scope: Scope, depth: int) -> None:
        if depth >= DEPTH_MAX:
            self.unmanaged[path] = f"deeper than {DEPTH_MAX} folders"
            return
        try:
            below = os.open(name, OPEN_FOLDER, dir_fd=fd)
        except (FileNotFoundError, NotADirectoryError):  # gone, or swapped for a link, since it was listed
            self._take(fd, name, path)
            return
        except OSError as error:
            self.unmanaged[path] = unreadable(error)
            return
        try:
            if os.fstat(below).st_dev != self.device:
                self.unmanaged[path] = "another file system"
            else:
                self.folder(below, f"{raw}/", f"{path}/", scope, depth + 1)
        finally:
            os.close(below)

    def _leaf(self, fd: int, each: os.DirEntry[str], path: str) -> None:
        try:
            status = each.stat(follow_symlinks=False)
        except FileNotFoundError:
            return
        except OSError as error:
            self.unmanaged[path] = unreadable(error)
            return
        if status.st_dev != self.device:
            self.unmanaged[path] = "another file system"
            return
        seen = None if self.full else self.cache.vouched(path, status)
        if seen is not None and status.st_size <= self.cap_bytes and self._has(seen.blob):
            self._record(path, seen)
        else:
            self._take(fd, each.name, path)

    def _take(self, fd: int, name: str, path: str) -> None:
        """Reads a file or link, and stores what is new."""
        found = read_settled(fd, name, self.cap_bytes)
        if isinstance(found, str):
            self.unmanaged[path] = found
        elif isinstance(found, Content):
            self.read += 1
            status = found.status
            blob = digest_of(found.content)
            if not self._has(blob):
                self.blobs.put(found.content)
                self.present.add(blob)
            size = len(found.content)
            self._record(path, Seen(status.st_mtime_ns, status.st_ctime_ns, size, status.st_ino, status.st_mode, blob))

    def _record(self, path: str, seen: Seen) -> None:
        self.rows[path] = seen
        if stat.S_ISLNK(seen.mode):
            self.files[path] = Entry("link", MODE_BITS, seen.blob, seen.size)
        else:
            self.files[path] = Entry("file", seen.mode & MODE_BITS, seen.blob, seen.size)

    def _has(self, blob: Digest) -> bool:
        """Asks the store about each blob once a scan."""
        if blob in self.present:
            return True
        if not self.blobs.has(blob):
            return False
        self.present.add(blob)
        return True

    def _enter(self, fd: int, raw: str, scope: Scope) -> Scope:
        """Reads the folder's ``.gitignore``; one that is a link, or too large, is none (git says the same)."""
        found = read_settled(fd, ".gitignore", self.cap_bytes)
        if isinstance(found, Content) and stat.S_ISREG(found.status.st_mode):
            return scope.enter(raw.removesuffix("/"), found.content)
        return scope
