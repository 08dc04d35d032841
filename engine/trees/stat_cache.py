"""What the last scan saw, kept in a file, so that the next process need not read everything again. Disposable.

The rule is git's (Documentation/technical/racy-git.txt): a file as it was seen last is vouched for only if it was older
than the scan that saw it; otherwise it may have changed within one tick of the clock, with no trace in its times. The
same holds for a folder and the names in it. What changes after the file was saved has other times than those in it, so
an old file costs readings and never hides a change.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import msgspec
from msgspec import Struct

from .places import Place

log = logging.getLogger("instar.engine.trees.stat_cache")

TICK_NS = 20_000_000
"""No clock that stamps files ticks slower (CONFIG_HZ=100 gives 10 ms) …"""
SECOND_NS = 1_000_000_000
COARSE_TICK_NS = 2 * SECOND_NS
"""… but for file systems that keep whole seconds (ext3, HFS+), or every other one (FAT)."""


class _Saved(Struct, frozen=True, array_like=True):
    version: int
    rules: str
    root: Place


_VERSION = 3
_decoder = msgspec.msgpack.Decoder(_Saved)


def is_settled(mtime_ns: int, ctime_ns: int, scanned_at_ns: int) -> bool:
    """Says whether something with these times was older than a scan, so that its times would tell a later change."""
    newest = mtime_ns if mtime_ns > ctime_ns else ctime_ns
    return newest + (TICK_NS if newest % SECOND_NS else COARSE_TICK_NS) < scanned_at_ns


class StatCache:
    """The file, and the clock that stamps the files beside it.

    Args:
        path: where it lies. A torn, foreign or missing file is an empty cache.
        writes: whether anything may be written there; what is seen is not vouched for otherwise.
    """

    def __init__(self, path: Path, *, writes: bool = True) -> None:
        self.path = path
        self._writes = writes

    def load(self) -> tuple[str, Place]:
        """Gives the rules under which the last scan ran (empty if there was none), and what it saw."""
        with suppress(OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            content = self.path.read_bytes()
            body, checksum = memoryview(content)[:-32], content[-32:]
            if sha256(body).digest() == checksum:
                saved = _decoder.decode(body)
                if saved.version == _VERSION:
                    return saved.rules, saved.root
        return "", Place()

    def save(self, rules: str, root: Place) -> None:
        """Writes the file atomically; one that cannot be written is only logged."""
        if not self._writes:
            return
        body = msgspec.msgpack.encode(_Saved(_VERSION, rules, root))
        written = self._beside("new")
        try:
            with written.open("wb") as file:
                file.write(body)
                file.write(sha256(body).digest())
            written.replace(self.path)
        except OSError as error:
            log.warning("%s: the stat cache was not saved: %s", self.path, error.strerror)

    def now_ns(self) -> int:
        """Reads the clock that stamps the files: the file system's own, which need not be this machine's.

        Returns 0, before which nothing is vouched for, where no file can or may be written.
        """
        if not self._writes:
            return 0
        try:
            fd = os.open(self._beside("clock"), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.utime(fd)
                return os.fstat(fd).st_mtime_ns
            finally:
                os.close(fd)
        except OSError as error:
            log.warning("%s: no stat cache can be kept: %s", self.path.parent, error.strerror)
            return 0

    def _beside(self, suffix: str) -> Path:
        return self.path.with_name(f"{self.path.name}.{suffix}")
