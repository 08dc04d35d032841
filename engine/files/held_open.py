"""Asks the kernel whether somebody has a file open to write to it."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
from contextlib import suppress

from instar.store.tree_nodes import Entry

from .beneath import OPEN_FILE, Obstacle, find, hashed

_F_SETSIG = 10  # linux/fcntl.h


def held_open(fd: int, name: bytes) -> bool:
    """Says whether any process has a file open for writing, this one included; False where that cannot be told.

    A read lease (fcntl(2), F_SETLEASE) is granted only while nobody has. Once a file lies under a name that nobody
    else opens, and this says False, it is written to no more: what is open is counted, however it was passed on.

    Args:
        fd: the open folder.
        name: a name in it. What is no regular file is never held.
    """
    try:
        file = os.open(name, OPEN_FILE, dir_fd=fd)
    except OSError:  # gone, or a link
        return False
    try:
        return _is_held(file)
    finally:
        os.close(file)


def look_closely(fd: int, name: bytes, mode: int) -> tuple[Entry | Obstacle | None, bool]:
    """Says what stands at a name, as ``find`` does, and then whether anybody holds it open, as ``held_open`` does.

    Args:
        fd: the open folder.
        name: a name in it.
        mode: its ``st_mode``.
    """
    if not stat.S_ISREG(mode):
        return find(fd, name), False
    try:
        file = os.open(name, OPEN_FILE, dir_fd=fd)
    except FileNotFoundError:
        return None, False
    except PermissionError:
        return find(fd, name), False
    try:
        return hashed(file), _is_held(file)
    finally:
        os.close(file)


def _is_held(file: int) -> bool:
    try:
        fcntl.fcntl(file, _F_SETSIG, signal.SIGURG)  # ignored; the default would end this process
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        with suppress(OSError):
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        return False
    except OSError as error:  # others: no leases on this file system, or somebody else's file
        return error.errno == errno.EAGAIN
