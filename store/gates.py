"""Gates in the log's lock file: closed for the length of a commit, and whoever waits for its end goes on at once.

A gate is a byte that whoever commits has locked. The queue of the log's lock lets one process go on after the other;
the end of a commit concerns all whose events were in it. A gate opens when its owner dies, as the lock does.
"""

from __future__ import annotations

import fcntl
import os
import struct
from contextlib import suppress

from .lock import FileLock, is_of_the_system
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
        self.closed = 0
        """The gate that is closed, or about to be; 0 for none."""

    def close(self) -> None:
        """Closes a gate, while the lock is held; where that cannot be done, nobody waits there."""
        if self.closed:
            return
        with suppress(OSError):
            for _ in range(_GATES):
                self._last = self.closed = self._last % _GATES + 1
                with suppress(BlockingIOError):
                    lock_byte(self._lock.fd, _FIRST + self._last)
                    os.pwrite(self._lock.fd, self._last.to_bytes(8, "little"), _NUMBER)
                    return
        self.open()

    def open(self) -> None:
        """Lets those who wait go on, after the lock was given back; opening twice is opening once."""
        try:
            unlock_byte(self._lock.fd, _FIRST + self.closed)
        except OSError as error:
            if not is_of_the_system(error):
                raise
        self.closed = 0

    def wait(self) -> None:
        """Waits until the commit that is going on has ended; not at all where none is known of.

        Raises:
            OSError: the file cannot be read or locked.
        """
        gate = int.from_bytes(os.pread(self._lock.fd, 8, _NUMBER), "little")
        if 0 < gate <= _GATES:
            try:
                with told_if_long(self._lock.path):
                    lock_byte(self._lock.fd, _FIRST + gate, shared=True)
            finally:
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
