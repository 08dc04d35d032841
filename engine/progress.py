"""What the worker is doing now, for whoever watches: a small file, replaced atomically.

Progress is no fact and is not in the log: losing it loses nothing.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import Struct

logger = logging.getLogger("instar.engine")

_INTERVAL_S = 0.2


class Progress(Struct, frozen=True):
    """One report: the effect that runs, how far it is, and the process that says so."""

    effect: str
    step: int
    steps: int
    note: str
    at_us: int
    pid: int


class ProgressFile:
    """Writes reports to a file, at most five a second."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last = 0.0
        self._listener: Callable[[str, int, int, str], None] | None = None

    def listen(self, listener: Callable[[str, int, int, str], None]) -> None:
        """Calls ``listener(effect, step, steps, note)`` with each report too."""
        self._listener = listener

    def report(self, effect: str, step: int = 0, steps: int = 0, note: str = "") -> None:
        """Writes where an effect stands; the first and the last step are always written."""
        if self._listener:
            self._listener(effect, step, steps, note)
        now = time.monotonic()
        if 0 < step < steps and now - self._last < _INTERVAL_S:
            return
        self._last = now
        content = Progress(effect, step, steps, note, time.time_ns() // 1000, os.getpid())
        staged = self._path.with_suffix(".new")
        try:
            staged.write_bytes(msgspec.json.encode(content))
            staged.replace(self._path)
        except OSError as error:
            logger.debug("progress not written: %s", error)


def read_progress(path: Path) -> Progress | None:
    """Reads the last report; None where there is none, or where its process is gone."""
    try:
        progress = msgspec.json.decode(path.read_bytes(), type=Progress)
        os.kill(progress.pid, 0)
    except (OSError, msgspec.MsgspecError):
        return None
    return progress
