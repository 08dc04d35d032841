"""Reads one file as it stands, while others may be changing it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator

from msgspec import Struct

from instar.fsm.words import Digest

from .beneath import OPEN_FILE

ATTEMPTS = 4
PARTS_MIN = 8 << 20
"""From this size on a file is stored part by part."""
PART_BYTES = 1 << 20

_CHANGED = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EINVAL, errno.ESTALE}
_UNREADABLE = {errno.EACCES, errno.EPERM, errno.EIO, errno.EBUSY, errno.ENXIO, errno.ENODEV}


class Content(Struct, frozen=True):
    """The bytes of a file, or the text of a link, and the status that they belong to."""

    content: bytes
    status: os.stat_result


class Stored(Struct, frozen=True):
    """A file too large for memory, by the blob that its bytes became, and the status that they belong to."""

    blob: Digest
    status: os.stat_result


Store = Callable[[Iterator[bytes], int], Digest]
"""Stores so many bytes, given part by part; whatever the parts raise ends it, with nothing stored."""


def unreadable(error: OSError) -> str:
    """Gives the reason for which something is left out, or raises the error: a fault of ours is no fault of the file.

    Raises:
        OSError: ``error`` itself, if it says nothing about the file (out of descriptors or memory, for one).
    """
    if error.errno in _UNREADABLE:
        return f"unreadable: {error.strerror}"
    raise error


def read_settled(
    fd: int,
    name: str,
    cap_bytes: int,
    store: Store | None = None,
    status: os.stat_result | None = None,
    *,
    is_file: bool = False,
) -> Content | Stored | str | None:
    """Reads what stands at a name, once it has not changed while it was read.

    Args:
        fd: the open folder.
        name: a name in it, as ``os.scandir`` gives it.
        cap_bytes: the largest file to read.
        store: takes a file that is too large to be in memory at once; without it every file is read as a whole.
        status: what ``os.stat`` says of it, if that was just asked.
        is_file: it was just listed as a regular file, so that it may be opened without asking first.

    Returns:
        The content, or what ``store`` made of it; or why it is left out; or None, if it is gone.
    """
    for _ in range(ATTEMPTS):
        try:
            if is_file:
                is_file = False
                found = _read_file(fd, name, None, cap_bytes, store)
            else:
                before = status or os.stat(name, dir_fd=fd, follow_symlinks=False)
                status = None
                found = _read(fd, name, before, cap_bytes, store)
            if isinstance(found, str) or _same(os.stat(name, dir_fd=fd, follow_symlinks=False), found.status):
                return found
        except OSError as error:
            if error.errno not in _CHANGED:
                return unreadable(error)
    try:
        os.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return "changes while read"


def _read(fd: int, name: str, status: os.stat_result, cap_bytes: int, store: Store | None) -> Content | Stored | str:
    if stat.S_ISREG(status.st_mode):
        return over(cap_bytes) if status.st_size > cap_bytes else _read_file(fd, name, status, cap_bytes, store)
    if stat.S_ISLNK(status.st_mode):
        return Content(os.fsencode(os.readlink(name, dir_fd=fd)), status)
    if stat.S_ISDIR(status.st_mode):
        raise OSError(errno.ESTALE, "became a folder")
    return kind_of(status.st_mode)


def _read_file(
    fd: int, name: str, expected: os.stat_result | None, cap_bytes: int, store: Store | None
) -> Content | Stored | str:
    file = os.open(name, OPEN_FILE, dir_fd=fd)
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode) or (expected is not None and not _same(status, expected)):
            raise OSError(errno.ESTALE, "replaced before it was opened")
        if status.st_size > cap_bytes:
            return over(cap_bytes)
        if store is not None and status.st_size >= PARTS_MIN:
            return Stored(store(_parts(file, status.st_size), status.st_size), status)
        return Content(_read_all(file, status.st_size), status)
    finally:
        os.close(file)


def over(cap_bytes: int) -> str:
    """Gives the reason for which a large file is left out."""
    return f"over cap {cap_bytes} bytes"


def _parts(file: int, size: int) -> Iterator[bytes]:
    """Yields ``size`` bytes; a file that holds more or fewer by now has changed."""
    left = size
    while left and (part := os.read(file, min(left, PART_BYTES))):
        left -= len(part)
        yield part
    if left or os.read(file, 1):
        raise OSError(errno.ESTALE, "grew or shrank while it was read")


def _read_all(file: int, size: int) -> bytes:
    """Reads ``size`` bytes, and one more if there is one, which tells that the file has grown."""
    content = os.read(file, size + 1)
    if len(content) >= size:
        return content
    parts = [content]
    missing = size + 1 - len(content)
    while missing and (part := os.read(file, missing)):
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def _same(one: os.stat_result, other: os.stat_result) -> bool:
    return (
        one.st_ctime_ns == other.st_ctime_ns
        and one.st_ino == other.st_ino
        and one.st_mtime_ns == other.st_mtime_ns
        and one.st_size == other.st_size
        and one.st_mode == other.st_mode
        and one.st_dev == other.st_dev
    )


def kind_of(mode: int) -> str:
    """Names what is neither file, link nor folder."""
    if stat.S_ISFIFO(mode):
        return "fifo"
    return "socket" if stat.S_ISSOCK(mode) else "device"
