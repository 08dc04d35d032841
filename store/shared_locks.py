"""Holds what SQLite goes by to tell that a process has a log open, also where its program reads the log's files itself.

SQLite has locks of the process on a file, and the kernel drops all of those once the process closes any descriptor of
that file: an agent that copies or searches its own folder does. Whoever opens the log next would take itself for the
only one, and cut the index of the write-ahead log under those that have it mapped, which kills them (SIGBUS); whoever
closes it last would remove the write-ahead log to which this process goes on to append. A lock of an open file stays
until that file is closed, so the same locks are held by files of our own. (https://sqlite.org/howtocorrupt.html, 2.2)
"""

from __future__ import annotations

import fcntl
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from weakref import WeakValueDictionary

_SHARED = 0x40000002, 510
"""Where in the database SQLite locks what all have that read or write it, and how many bytes."""
_INDEX = 128, 1
"""Where in the index of the write-ahead log all have locked that have it mapped."""

_MODE_AT, _WRITE_AHEAD = 18, b"\2\2"
"""Where the database says in which mode it is written and read, and what it says of a write-ahead log."""


class SharedLocks:
    """The locks of one process on one log; whoever opens that holds on to them, and drops them once it has closed it.

    Args:
        path: the database, which is open by now, and so are the files beside it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._index = path.with_name(f"{path.name}-shm")
        self._files: dict[Path, int] = {}

    def take(self) -> None:
        """Takes the locks, of a log in the write-ahead mode: whoever brings another into that mode needs it alone."""
        with suppress(OSError):  # of a copy on a read-only disk there is no index
            if os.pread(self._opened(self._path), len(_WRITE_AHEAD), _MODE_AT) != _WRITE_AHEAD:
                return
            _set(self._opened(self._path), fcntl.F_RDLCK, _SHARED)
            _set(self._opened(self._index), fcntl.F_RDLCK, _INDEX)

    def _opened(self, path: Path) -> int:
        if path not in self._files:
            self._files[path] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        return self._files[path]

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Lets a connection be closed in the block as the last one, which moves all into the database."""
        try:
            with suppress(OSError):
                _set(self._opened(self._path), fcntl.F_UNLCK, _SHARED)
            yield
        finally:
            self.take()

    def __del__(self) -> None:
        for fd in self._files.values():
            with suppress(OSError):
                os.close(fd)


_held: WeakValueDictionary[tuple[int, int, int], SharedLocks] = WeakValueDictionary()
"""By process, device and number: files of ours are closed only when no connection of ours is left to lose a lock."""
_guard = threading.RLock()
"""Of the thread: a signal's handler may fork while its thread opens a log, or forks."""
os.register_at_fork(before=_guard.acquire, after_in_parent=_guard.release, after_in_child=_guard.release)


def shared_locks(path: Path) -> SharedLocks | None:
    """Gives the locks of this process on a log that it has just opened; None where the kernel has no such ones."""
    try:
        status = path.stat()
    except OSError:
        return None
    of = os.getpid(), status.st_dev, status.st_ino
    with _guard:
        found = _held.get(of)
        if found is None and hasattr(fcntl, "F_OFD_SETLK"):
            found = _held[of] = SharedLocks(path)
        if found is not None:
            found.take()
        return found


def _set(fd: int, kind: int, place: tuple[int, int]) -> None:
    with suppress(OSError):  # a file system without locks
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", kind, os.SEEK_SET, *place, 0))
