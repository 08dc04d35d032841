"""Says for what one waits for long: a process that was stopped holds a lock without a word, and a plugin may hang."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

logger = logging.getLogger("instar.store")

LONG_S = 3.0
"""A wait of so many seconds is told of, once."""
_LOOK_EVERY_S = 0.5


class _Waits:
    """The waits of this process, and the one thread that looks at them; it begins with the first."""

    def __init__(self) -> None:
        self._due: dict[object, tuple[float, Callable[[], str]]] = {}
        self._process = 0
        self._guard = threading.Lock()

    def add(self, long_s: float, tell: Callable[[], str]) -> object:
        """Notes that a wait begins."""
        wait = object()
        self._due[wait] = time.monotonic() + long_s, tell
        if self._process != os.getpid():  # the thread of a process goes with it, and is not forked off
            with self._guard:
                if self._process != os.getpid():
                    for other in self._due.keys() - {wait}:  # of the process that this one was forked off
                        self._due.pop(other, None)
                    self._process = os.getpid()
                    threading.Thread(target=self._look, name="instar-waits", daemon=True).start()
        return wait

    def end(self, wait: object) -> None:
        """Notes that it ended."""
        self._due.pop(wait, None)

    def _look(self) -> None:
        while True:
            time.sleep(_LOOK_EVERY_S)
            now = time.monotonic()
            for wait, (due, tell) in self._due.copy().items():
                if now >= due and self._due.pop(wait, None) is not None:
                    logger.warning("%s", tell())


_waits = _Waits()


@contextmanager
def told_if_long(path: Path) -> Iterator[None]:
    """Waits for a lock in the block; where that takes long, a warning says who holds it."""
    with told_after(
        LONG_S, lambda: f"waiting for {path}, which {holder(path)} holds; this goes on once it is given back"
    ):
        yield


@contextmanager
def told_after(long_s: float, tell: Callable[[], str]) -> Iterator[None]:
    """Does what may take long in the block; a warning says so once it took so many seconds.

    Args:
        long_s: after how many seconds.
        tell: gives the warning; called in another thread.
    """
    wait = _waits.add(long_s, tell)
    try:
        yield
    finally:
        _waits.end(wait)


def holder(path: Path) -> str:
    """Names the process that holds the lock on a file, as the kernel lists it."""
    pid = _holder(path)
    return process_told(pid) if pid else "another process"


def stopped_holder(path: Path) -> int:
    """Gives the process that holds the lock on a file and was stopped (Ctrl-Z, SIGSTOP); 0 where there is none."""
    pid = _holder(path)
    return pid if pid and _is_stopped(pid) else 0


def process_told(pid: int) -> str:
    """Names a process, and says how it goes on if it was stopped."""
    try:
        name = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return f"process {pid}"
    stopped = f", which is stopped (`kill -CONT {pid}` lets it go on)" if _is_stopped(pid) else ""
    return f"process {pid} ({name}){stopped}"


def _is_stopped(pid: int) -> bool:
    with suppress(OSError, IndexError):
        content = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return content.rpartition(")")[2].split()[0] in "Tt"
    return False


def _holder(path: Path) -> int:
    """Finds who holds the lock on a file; 0 where the kernel does not tell."""
    found: dict[bool, int] = {}
    with suppress(OSError, ValueError, IndexError):
        status = path.stat()
        device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
        for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
            kind, pid, file = (line.split()[at] for at in (1, 4, 5))
            where, _, number = file.rpartition(":")
            if kind == "FLOCK" and number == str(status.st_ino):
                # Files of two disks may have one number, and btrfs and overlays name another device than stat does.
                found.setdefault(where == device, max(0, int(pid)))
    return found.get(True) or found.get(False, 0)
