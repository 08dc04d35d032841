"""Gates in the log's lock file: closed for the length of a commit, and whoever waits for its end goes on at once.

A gate is a byte that whoever commits has locked. The queue of the log's lock lets one process go on after the other;
the end of a commit concerns all whose events were in it. A gate opens when its owner dies, as the lock does.
"""

from __future__ import annotations

import fcntl
import os
import struct
from contextlib import suppress

from .lock import FileLock
from .long_waits import told_if_long

_GATES = 64
"""More than there are slots: a process that is stopped behind a gate keeps that one from being closed again."""
_NUMBER = 64
"""Where the file says which gate was closed last."""
_FIRST = 512


class Gates:
    """The gates of one lock file, as one process uses them.

    Args:
        lock: the lock in whose file they lie.
    """

    def __init__(self, lock: FileLock) -> None:
        self._lock = lock
        self._last = 0
        self._closed = 0

    def close(self) -> None:
        """Closes a gate, while the lock is held; where that cannot be done, nobody waits there."""
        if self._closed:
            return
        with suppress(OSError):
            for _ in range(_GATES):
                self._last = self._last % _GATES + 1
                with suppress(BlockingIOError):
                    lock_byte(self._lock.fd, _FIRST + self._last)
                    self._closed = self._last
                    os.pwrite(self._lock.fd, self._last.to_bytes(8, "little"), _NUMBER)
                    return

    def leave(self) -> int:
        """Gives the gate that is closed, for whoever gives the lock back and opens the gate after that; 0 for none."""
        closed, self._closed = self._closed, 0
        return closed

    def open(self, gate: int) -> None:
        """Lets those who wait go on."""
        with suppress(OSError):
            unlock_byte(self._lock.fd, _FIRST + gate)

    def wait(self) -> None:
        """Waits until the commit that is going on has ended; not at all where none is known of.

        Raises:
            OSError: the file cannot be read or locked.
        """
        gate = int.from_bytes(os.pread(self._lock.fd, 8, _NUMBER), "little")
        if 0 < gate <= _GATES:
            with told_if_long(self._lock.path):
                lock_byte(self._lock.fd, _FIRST + gate, shared=True)
            unlock_byte(self._lock.fd, _FIRST + gate)


def lock_byte(fd: int, place: int, *, shared: bool = False) -> None:
    """Locks one byte of a file: alone or not at all, or shared with others, for which it waits.

    The lock goes with the open file, not with the process, whose other open files it would else depend on.

    Raises:
        BlockingIOError: somebody else has locked it.
    """
    if shared:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLKW, _flock(fcntl.F_RDLCK, place))
    else:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _flock(fcntl.F_WRLCK, place))


def unlock_byte(fd: int, place: int) -> None:
    """Gives the lock on a byte back."""
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _flock(fcntl.F_UNLCK, place))


def is_byte_locked(fd: int, place: int) -> bool:
    """Says whether somebody else has locked a byte."""
    found = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _flock(fcntl.F_WRLCK, place))
    (kind,) = struct.unpack_from("h", found)
    return bool(kind != fcntl.F_UNLCK)


def _flock(kind: int, place: int) -> bytes:
    """Packs the kernel's ``struct flock`` for one byte."""
    return struct.pack("hhqqi4x", kind, os.SEEK_SET, place, 1, 0)
