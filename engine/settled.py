"""Reads one file as it stands, while others may be changing it."""

from __future__ import annotations

import errno
import os
import stat

from msgspec import Struct

from .beneath import OPEN_FILE

ATTEMPTS = 4

_CHANGED = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EINVAL, errno.ESTALE}
_UNREADABLE = {errno.EACCES, errno.EPERM, errno.EIO, errno.EBUSY, errno.ENXIO, errno.ENODEV}


class Content(Struct, frozen=True):
    """The bytes of a file, or the text of a link, and the status that they belong to."""

    content: bytes
    status: os.stat_result


def unreadable(error: OSError) -> str:
    """Gives the reason for which something is left out, or raises the error: a fault of ours is no fault of the file.

    Raises:
        OSError: ``error`` itself, if it says nothing about the file (out of descriptors or memory, for one).
    """
    if error.errno in _UNREADABLE:
        return f"unreadable: {error.strerror}"
    raise error


def read_settled(fd: int, name: str, cap_bytes: int) -> Content | str | None:
    """Reads what stands at a name, once it has not changed while it was read.

    Args:
        fd: the open folder.
        name: a name in it, as ``os.scandir`` gives it.
        cap_bytes: the largest file to read.

    Returns:
        The content; or why it is left out; or None, if it is gone.
    """
    for _ in range(ATTEMPTS):
        try:
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            found = _read(fd, name, status, cap_bytes)
            if isinstance(found, str) or _same(os.stat(name, dir_fd=fd, follow_symlinks=False), status):
                return found if isinstance(found, str) else Content(found, status)
        except OSError as error:
            if error.errno not in _CHANGED:
                return unreadable(error)
    try:
        os.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return "changes while read"


def _read(fd: int, name: str, status: os.stat_result, cap_bytes: int) -> bytes | str:
    if stat.S_ISLNK(status.st_mode):
        return os.fsencode(os.readlink(name, dir_fd=fd))
    if stat.S_ISDIR(status.st_mode):
        raise OSError(errno.ESTALE, "became a folder")
    if not stat.S_ISREG(status.st_mode):
        return kind_of(status.st_mode)
    if status.st_size > cap_bytes:
        return f"over cap {cap_bytes} bytes"
    file = os.open(name, OPEN_FILE, dir_fd=fd)
    try:
        if not _same(os.fstat(file), status):
            raise OSError(errno.ESTALE, "replaced before it was opened")
        return _read_all(file, status.st_size)
    finally:
        os.close(file)


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
    return (one.st_ino, one.st_dev, one.st_mode, one.st_size, one.st_mtime_ns, one.st_ctime_ns) == (
        other.st_ino,
        other.st_dev,
        other.st_mode,
        other.st_size,
        other.st_mtime_ns,
        other.st_ctime_ns,
    )


def kind_of(mode: int) -> str:
    """Names what is neither file, link nor folder."""
    if stat.S_ISFIFO(mode):
        return "fifo"
    return "socket" if stat.S_ISSOCK(mode) else "device"
