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
from typing import TypeGuard

from instar.fsm.errors import LogUnavailable

from .forked import closes_in_children
from .long_waits import told_if_long


class FileLock:
    """A re-entrant lock for the threads of this process and, by ``flock``, between processes.

    The file stays open between uses: opening it takes longer than locking it. A process that was forked off opens it
    anew, since a lock goes with the open file and the two would share it.

    An exception of a signal's handler (Ctrl-C) may come after any call, and as a function begins. So whoever holds the
    lock notes the ``level`` before, asks for it within the block at whose end he goes ``back_to`` that level, and goes
    back once more where that was cut off: going back twice is going back once.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._threads = threading.RLock()
        """Knows whose it is, so that a thread which is interrupted gives it back only if it had it by then."""
        self._owner = 0
        """The thread that has it, or is about to lock the file; 0 for none."""
        self._depth = 0
        self.fd = -1
        """The open file; -1 before the first use."""
        self.opened = 0
        """How often it was opened."""
        self.taken = 0
        """How often it was taken by a thread that did not have it."""
        self._process = 0
        closes_in_children(self)

    def level(self) -> int:
        """Says how often this thread holds the lock."""
        return self._depth if self._owner == threading.get_ident() else 0

    def acquire(self, *, blocking: bool = True, granted: Callable[[], object] | None = None) -> bool:
        """Takes the lock; with ``blocking=False`` says at once whether it could be had. An exception leaves it untaken.

        Args:
            blocking: waits for it; a warning says who holds it if that takes long.
            granted: called whenever the file is locked; a file that was removed is given up after that, for a new one.

        Raises:
            LogUnavailable: its file cannot be opened or locked; or this thread is in the midst of locking it: a
                signal's handler or a destructor asks for it too.
        """
        me = threading.get_ident()
        if self._owner == me:
            if not self._depth:
                raise LogUnavailable(
                    f"a signal handler or a destructor asked for the lock {self.path} while its thread was taking it. "
                    "Nothing was done: ask for it in a thread of its own, or afterwards."
                )
            self._depth += 1
            return True
        try:
            if not self._threads.acquire(blocking):
                return False
            self._owner = me
            self._take(blocking, granted)
            self.taken += 1
            self._depth = 1
        except BaseException as error:
            self._untake(me)
            if isinstance(error, BlockingIOError):
                return False
            if is_of_the_system(error):
                raise LogUnavailable(
                    f"the lock {self.path} cannot be taken: {error}. Nothing was done; the folder must be writable."
                ) from error
            raise
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

    def _untake(self, me: int) -> None:
        """Gives back what of the lock this thread has, from whichever point it was interrupted at."""
        if self._owner == me:
            self._depth = 0
            try:  # noqa: SIM105 - entering `suppress` would be a call
                fcntl.flock(self.fd, fcntl.LOCK_UN)
            except (OSError, ValueError):  # it is closed, and with that unlocked
                pass
            self._owner = 0
        try:  # noqa: SIM105
            self._threads.release()
        except RuntimeError:
            pass

    def back_to(self, level: int) -> None:
        """Gives back what this thread took since it held the lock so often; at 0, others may have it."""
        me = threading.get_ident()
        if self._owner != me:
            return
        if level:
            self._depth = min(level, self._depth)
        else:
            self._untake(me)

    def release(self) -> None:
        """Gives the lock back once; the kernel does the same when the process dies."""
        self.back_to(self.level() - 1)

    @contextmanager
    def held(self, take: Callable[[], object] | None = None) -> Iterator[None]:
        """Holds the lock for the length of a block.

        An exception of a signal's handler at the first instruction of ``__exit__`` gives it back once it is dropped.

        Args:
            take: takes it, in place of ``acquire``; whatever this raises, the lock is given back.
        """
        level = self.level()
        try:
            try:
                (take or self.acquire)()
                taken = self.taken
                yield
            except GeneratorExit:
                if not self.is_last(taken, level):
                    level = self.level()
                raise
            finally:
                self.back_to(level)
        except BaseException:
            self.back_to(level)
            raise

    def is_last(self, taken: int, level: int) -> bool:
        """Says whether the lock is held as it was after it was last taken: nobody took it since, who needs it now."""
        return self.taken == taken and self.level() == level + 1

    def close(self) -> None:
        """Closes the file; the next use opens it again."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            with suppress(OSError):
                os.close(fd)

    @property
    def is_taken(self) -> bool:
        """Whether a thread of this process has the lock, and not merely waits for another process."""
        return self._depth > 0

    def pause(self, timeout_s: float) -> bool:
        """Keeps the other threads of this process from taking it; False if one has it for longer than that."""
        return self._threads.acquire(timeout=timeout_s)

    def resume(self) -> None:
        """Lets them take it again."""
        self._threads.release()

    def leave(self) -> None:
        """Lets a process that was forked off begin anew: neither the open file nor a thread that has it is its own."""
        self.close()
        self.opened += 1
        if self._owner != threading.get_ident():
            self._threads = threading.RLock()
            self._owner = self._depth = 0

    def __del__(self) -> None:
        self.close()


def is_of_the_system(error: BaseException) -> TypeGuard[OSError]:
    """Says whether a call of the system failed; a signal's handler raises a TimeoutError, which is an OSError, too."""
    return isinstance(error, OSError) and error.errno is not None
