"""An exclusive lock between processes and threads, on a file.

SQLite's own busy handler starves writers (the fastest of four processes got 23 times what the slowest got); the
kernel's queue of ``flock`` waiters is fair.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class FileLock:
    """A re-entrant lock for the threads of this process and, by ``flock``, between processes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._threads = threading.RLock()
        self._depth = 0
        self._fd = -1

    def acquire(self, *, blocking: bool = True) -> bool:
        """Takes the lock; with ``blocking=False`` says at once whether it could be had."""
        if not self._threads.acquire(blocking=blocking):
            return False
        if self._depth == 0 and not self._take(blocking=blocking):
            self._threads.release()
            return False
        self._depth += 1
        return True

    def _take(self, *, blocking: bool) -> bool:
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX if blocking else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd
        return True

    def release(self) -> None:
        """Gives the lock back; the kernel does the same when the process dies."""
        self._depth -= 1
        if self._depth == 0:
            os.close(self._fd)
            self._fd = -1
        self._threads.release()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Holds the lock for the length of a block."""
        self.acquire()
        try:
            yield
        finally:
            self.release()
