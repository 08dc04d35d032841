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

from .clock_ahead import span

logger = logging.getLogger("instar.engine")

_INTERVAL_S = 0.2
IDLE = "idle"
"""What is reported when nothing is owed."""
SILENT_S = 60.0
"""Who was not heard of for so long is told of."""
HANGS_S = 600.0
"""And who was not heard of for so long may never be again."""


class Progress(Struct, frozen=True):
    """One report: the effect that runs, how far it is, and the process that says so."""

    effect: str
    step: int
    steps: int
    note: str
    at_us: int
    pid: int
    since_us: int = 0
    """When the effect was begun; 0 in a report of an earlier version."""

    def told(self, now_us: int) -> str:
        """Says what is done, for how long, and for how long nothing was heard of it; empty where nothing is."""
        if self.effect == IDLE:
            return ""
        begun_s = (now_us - (self.since_us or self.at_us)) / 1_000_000
        step = f", step {self.step} of {self.steps}" if self.steps else ""
        silent = f", without a word for {span(self.silent_s(now_us))}" if self.silent_s(now_us) >= SILENT_S else ""
        return f"{self.effect} for {span(max(0.0, begun_s))}{step}{silent}"

    def silent_s(self, now_us: int) -> float:
        """For how many seconds nothing was heard of what is done; 0 where nothing is."""
        return 0.0 if self.effect == IDLE else max(0.0, (now_us - self.at_us) / 1_000_000)


class ProgressFile:
    """Writes reports to a file, at most five a second."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.last = 0.0
        """When the last report was written, by the monotonic clock."""
        self._effect, self._since_us = "", 0
        self._listener: Callable[[str, int, int, str], None] | None = None

    def listen(self, listener: Callable[[str, int, int, str], None]) -> None:
        """Calls ``listener(effect, step, steps, note)`` with each report too."""
        self._listener = listener

    def report(self, effect: str, step: int = 0, steps: int = 0, note: str = "") -> None:
        """Writes where an effect stands; the first and the last step are always written."""
        if self._listener:
            self._listener(effect, step, steps, note)
        now = time.monotonic()
        if 0 < step < steps and now - self.last < _INTERVAL_S:
            return
        self.last = now
        now_us = time.time_ns() // 1000
        if effect != self._effect or not (step or note):
            self._effect, self._since_us = effect, now_us
        content = Progress(effect, step, steps, note, now_us, os.getpid(), self._since_us)
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
