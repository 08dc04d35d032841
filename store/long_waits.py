"""Says who holds a lock for which one waits for long: a process that was stopped holds it without a word."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

logger = logging.getLogger("instar.store")

LONG_S = 3.0
"""A wait of so many seconds is told of, once."""
_LOOK_EVERY_S = 0.5


class _Waits:
    """The waits of this process, and the one thread that looks at them; it begins with the first."""

    def __init__(self) -> None:
        self._since: dict[object, tuple[float, Path]] = {}
        self._process = 0
        self._guard = threading.Lock()

    def add(self, path: Path) -> object:
        """Notes that a wait begins."""
        wait = object()
        self._since[wait] = time.monotonic(), path
        if self._process != os.getpid():  # the thread of a process goes with it, and is not forked off
            with self._guard:
                if self._process != os.getpid():
                    self._process = os.getpid()
                    threading.Thread(target=self._look, name="instar-waits", daemon=True).start()
        return wait

    def end(self, wait: object) -> None:
        """Notes that it ended."""
        self._since.pop(wait, None)

    def _look(self) -> None:
        told: set[object] = set()
        while True:
            time.sleep(_LOOK_EVERY_S)
            now, waits = time.monotonic(), self._since.copy()
            told.intersection_update(waits)
            for wait, (since, path) in waits.items():
                if wait not in told and now - since >= LONG_S:
                    told.add(wait)
                    logger.warning(
                        "waiting for %s, which %s holds; this goes on once it is given back", path, holder(path)
                    )


_waits = _Waits()


@contextmanager
def told_if_long(path: Path) -> Iterator[None]:
    """Waits for a lock in the block; where that takes long, a warning says who holds it."""
    wait = _waits.add(path)
    try:
        yield
    finally:
        _waits.end(wait)


def holder(path: Path) -> str:
    """Names the process that holds the lock on a file, as the kernel lists it."""
    with suppress(OSError, ValueError, IndexError):
        number = f":{path.stat().st_ino}"
        for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
            kind, pid, file = (line.split()[at] for at in (1, 4, 5))
            if kind == "FLOCK" and file.endswith(number):
                name = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
                state = (
                    Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
                )
                stopped = f", which is stopped (`kill -CONT {pid}` lets it go on)" if state[0] in "Tt" else ""
                return f"process {pid} ({name}){stopped}"
    return "another process"
