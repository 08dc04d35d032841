"""File operations that never leave a folder, whatever is swapped for a link while they run.

Each folder on the way is opened by its parent's descriptor with O_NOFOLLOW, so a link is never followed. Paths are
spelled as ``store.paths`` spells them; names next to a descriptor are bytes.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

from msgspec import Struct

from instar.fsm.errors import ConfigError
from instar.fsm.words import Digest, digest_of
from instar.store.paths import check_path, decode_path, parent_of
from instar.store.trees import MODE_BITS, Entry

from .flush import sync_all, sync_each
from .open_beneath import OPEN_FOLDER, open_beneath

OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
CHUNK_BYTES = 1 << 20

_HELD_MAX = 128
"""So many folders are held open until they are synced; the others are opened again."""
_NOREPLACE, _EXCHANGE = 1, 2  # linux/fs.h
_LACKING = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP}
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS}
_renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)


class Obstacle(Struct, frozen=True):
    """Something that is neither a file that can be read nor a link."""

    kind: str


class Beneath:
    """A root folder, held open.

    Attributes:
        fd: the root's descriptor.
        touched: folders whose names changed through this object, until ``sync``.
    """

    def __init__(self, root: Path) -> None:
        try:
            self.fd = os.open(root, OPEN_FOLDER & ~os.O_NOFOLLOW)
        except OSError as error:
            raise ConfigError(f"cannot open the folder {root}: {error.strerror}; give an existing folder.") from error
        self.root = root
        self.touched: set[str] = set()
        self._held: dict[str, int] = {}

    def __enter__(self) -> Beneath:
        return self

    def __exit__(self, *_: object) -> None:
        self._let_go()
        os.close(self.fd)

    def hold(self, path: str, fd: int) -> None:
        """Takes over the descriptor of a touched folder, for ``sync``."""
        if path in self._held or len(self._held) >= _HELD_MAX:
            os.close(fd)
        else:
            self._held[path] = fd

    def _let_go(self) -> None:
        while self._held:
            os.close(self._held.popitem()[1])

    @contextmanager
    def folder(self, path: str, *, make: bool = False) -> Iterator[int]:
        """Opens a folder for the time of a ``with``; raises as ``opened``."""
        fd = self.opened(path, make=make)
        try:
            yield fd
        finally:
            os.close(fd)

    def opened(self, path: str, *, make: bool = False) -> int:
        """Opens a folder (the root is the empty string); whoever called closes it.

        Args:
            path: the folder's path.
            make: whether to make what is missing of it.

        Raises:
            FileNotFoundError: a part of it is missing.
            NotADirectoryError: a part of it is a link, a file or a device; ``filename`` says which part.
        """
        if not path:
            return os.dup(self.fd)
        check_path(path)
        at_once = open_beneath(self.fd, decode_path(path))
        if at_once is not None:
            return at_once
        fd = os.dup(self.fd)
        names = path.split("/")
        try:
            for depth, name in enumerate(names):
                here, below = "/".join(names[:depth]), "/".join(names[: depth + 1])
                fd = self._step(fd, decode_path(name), here if make else None, below)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _step(self, fd: int, name: bytes, make_in: str | None, path: str) -> int:
        """Opens the folder ``path`` by its name in ``fd``, and closes ``fd`` once that is done."""
        try:
            below = os.open(name, OPEN_FOLDER, dir_fd=fd)
        except FileNotFoundError:
            if make_in is None:
                raise
            with suppress(FileExistsError):
                os.mkdir(name, dir_fd=fd)
            self.touched.add(make_in)
            return self._step(fd, name, None, path)
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                raise NotADirectoryError(errno.ENOTDIR, "a link or a file is in the way", path) from error
            raise
        os.close(fd)
        return below

    def sync(self, also: int) -> None:
        """Makes the names in every touched folder durable, and those in another open folder of the same file system."""
        if not sync_all(self.fd, len(self.touched)):
            sync_each([*sorted(self.touched), None], lambda path: self._sync_folder(path, also))
        self.touched.clear()
        self._let_go()

    def _sync_folder(self, path: str | None, also: int) -> None:
        held = also if path is None else self._held.get(path)
        if held is not None:
            os.fsync(held)
            return
        assert path is not None
        with suppress(FileNotFoundError, NotADirectoryError), self.folder(path) as fd:
            os.fsync(fd)


def names(fd: int) -> list[bytes]:
    """Lists the names in an open folder, sorted."""
    return sorted(map(os.fsencode, os.listdir(fd)))


def split(path: str) -> tuple[str, bytes]:
    """Parts a path into its folder and the bytes of its name."""
    check_path(path)
    return parent_of(path), decode_path(path).rpartition(b"/")[2]


def find(fd: int, name: bytes) -> Entry | Obstacle | None:
    """Says what stands at a name, reading and hashing it; None if nothing does."""
    try:
        status = os.stat(name, dir_fd=fd, follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            target = os.readlink(name, dir_fd=fd)
            return Entry(kind="link", mode=MODE_BITS, blob=digest_of(target), size=len(target))
        if not stat.S_ISREG(status.st_mode):
            return Obstacle("folder" if stat.S_ISDIR(status.st_mode) else "device, pipe or socket")
        file = os.open(name, OPEN_FILE, dir_fd=fd)
        try:
            return hashed(file)
        finally:
            os.close(file)
    except FileNotFoundError:
        return None
    except PermissionError:
        return Obstacle("file that cannot be read")


def kind_at(fd: int, name: bytes) -> str | Obstacle | None:
    """Says whether a file or a link stands at a name, without reading it; None if nothing does."""
    try:
        mode = os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISREG(mode):
        return "file"
    return "link" if stat.S_ISLNK(mode) else Obstacle("folder" if stat.S_ISDIR(mode) else "device, pipe or socket")


def hashed(file: int) -> Entry:
    """Reads and hashes an open file."""
    status = os.fstat(file)
    digest, size = sha256(), 0
    while True:
        asked = min(CHUNK_BYTES, max(1, status.st_size + 1 - size))
        chunk = os.read(file, asked)
        digest.update(chunk)
        size += len(chunk)
        if not chunk or (len(chunk) < asked and size >= status.st_size):
            return Entry(kind="file", mode=status.st_mode & MODE_BITS, blob=Digest(digest.hexdigest()), size=size)


def read(fd: int, name: bytes) -> bytes:
    """Reads a file whole, or a link's target."""
    if stat.S_ISLNK(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
        return os.readlink(name, dir_fd=fd)
    file = os.open(name, OPEN_FILE, dir_fd=fd)
    with open(file, "rb") as opened:  # noqa: PTH123 - a descriptor, not a path
        return opened.read()


def exchange(from_fd: int, source: bytes, to_fd: int, target: bytes) -> None:
    """Swaps two names in one step; both must exist.

    Where the file system cannot (NFS, 9p, FUSE), ``target`` is first linked as ``<source>.old`` beside ``source``, then
    replaced. A crash leaves that link, with the displaced bytes; it must be gone before the next call. What another
    process puts in place of ``target`` between these two steps is lost there: no call could tell.
    """
    if _rename2(from_fd, source, to_fd, target, _EXCHANGE):
        return
    old = source + b".old"
    try:
        os.link(target, old, src_dir_fd=to_fd, dst_dir_fd=from_fd, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        os.rename(target, old, src_dir_fd=to_fd, dst_dir_fd=from_fd)
    os.rename(source, target, src_dir_fd=from_fd, dst_dir_fd=to_fd)
    os.rename(old, source, src_dir_fd=from_fd, dst_dir_fd=from_fd)


def rename_noreplace(from_fd: int, source: bytes, to_fd: int, target: bytes) -> None:
    """Renames, unless the target exists.

    Raises:
        FileExistsError: it does; nothing was renamed.
    """
    if _rename2(from_fd, source, to_fd, target, _NOREPLACE):
        return
    try:
        os.link(source, target, src_dir_fd=from_fd, dst_dir_fd=to_fd, follow_symlinks=False)
        os.unlink(source, dir_fd=from_fd)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        with suppress(FileNotFoundError):  # neither flag nor links: look, then rename
            os.stat(target, dir_fd=to_fd, follow_symlinks=False)
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target) from error
        os.rename(source, target, src_dir_fd=from_fd, dst_dir_fd=to_fd)


def _rename2(from_fd: int, source: bytes, to_fd: int, target: bytes, flag: int) -> bool:
    """Calls renameat2; returns False where the C library or the file system does not know the flag."""
    if _renameat2 is None:
        return False
    if _renameat2(from_fd, source, to_fd, target, flag) == 0:
        return True
    number = ctypes.get_errno()
    if number in _LACKING:
        return False
    raise OSError(number, os.strerror(number), os.fsdecode(target))
