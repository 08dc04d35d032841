"""An exclusive lock between processes and threads, on a file.

SQLite's own busy handler starves writers (the fastest of four processes got 23 times what the slowest got); the
kernel's queue of ``flock`` waiters is fair.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from instar.fsm.errors import LogUnavailable

from .long_waits import told_if_long


class FileLock:
    """A re-entrant lock for the threads of this process and, by ``flock``, between processes.

    The file stays open between uses: opening it takes longer than locking it. A process that was forked off opens it
    anew, since a lock goes with the open file and the two would share it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._threads = threading.RLock()
        self.depth = 0
        self.fd = -1
        """The open file; -1 before the first use."""
        self.opened = 0
        """How often it was opened."""
        self._process = 0

    def acquire(self, *, blocking: bool = True, granted: Callable[[], object] | None = None) -> bool:
        """Takes the lock; with ``blocking=False`` says at once whether it could be had.

        Args:
            blocking: waits for it; a warning says who holds it if that takes long.
            granted: called whenever the file is locked; a file that was removed is given up after that, for a new one.

        Raises:
            LogUnavailable: its file cannot be opened or locked.
        """
        if not self._threads.acquire(blocking):
            return False
        if self.depth == 0:
            try:
                self._take(blocking, granted)
            except BlockingIOError:
                self._threads.release()
                return False
            except OSError as error:
                self._threads.release()
                raise LogUnavailable(
                    f"the lock {self.path} cannot be taken: {error}. Nothing was done; the folder must be writable."
                ) from error
            except BaseException:
                with suppress(OSError):
                    fcntl.flock(self.fd, fcntl.LOCK_UN)  # interrupted just after it was had
                self._threads.release()
                raise
        self.depth += 1
        return True

    def _take(self, blocking: bool, granted: Callable[[], object] | None) -> None:
        while True:
            if self.fd < 0 or self._process != os.getpid():
                self._open()
            try:
                fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not blocking:
                    raise
                with told_if_long(self.path):
                    fcntl.flock(self.fd, fcntl.LOCK_EX)
            if granted is not None:
                granted()
            if os.fstat(self.fd).st_nlink:
                return
            self.close()  # somebody removed the file: others would lock another one

    def _open(self) -> None:
        self.close()
        self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.opened += 1
        self._process = os.getpid()

    def release(self) -> None:
        """Gives the lock back; the kernel does the same when the process dies."""
        self.depth -= 1
        if self.depth == 0:
            fcntl.flock(self.fd, fcntl.LOCK_UN)
        self._threads.release()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Holds the lock for the length of a block."""
        self.acquire()
        try:
            yield
        finally:
            self.release()

    def close(self) -> None:
        """Closes the file; the next use opens it again."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            with suppress(OSError):
                os.close(fd)

    def __del__(self) -> None:
        self.close()
