"""What the last scan saw of each file, so that the next one need not read it again. Disposable.

The rule is git's (Documentation/technical/racy-git.txt): a file as it was seen last is vouched for only if it was older
than the scan that saw it; otherwise it may have changed within one tick of the clock, with no trace in its times.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import msgspec
from msgspec import Struct

from instar.fsm.words import Digest

log = logging.getLogger("instar.engine.stat_cache")

TICK_NS = 20_000_000
"""No clock that stamps files ticks slower (CONFIG_HZ=100 gives 10 ms) …"""
SECOND_NS = 1_000_000_000
COARSE_TICK_NS = 2 * SECOND_NS
"""… but for file systems that keep whole seconds (ext3, HFS+), or every other one (FAT)."""


class Seen(Struct, frozen=True, gc=False, array_like=True):
    """One file or link, as ``os.stat`` showed it when its content was ``blob``. ``mode`` is all of ``st_mode``."""

    mtime_ns: int
    ctime_ns: int
    size: int
    inode: int
    mode: int
    blob: Digest


class _Saved(Struct, frozen=True, array_like=True):
    version: int
    scanned_at_ns: int
    rows: dict[str, Seen]


_VERSION = 1
_decoder = msgspec.msgpack.Decoder(_Saved)


class StatCache:
    """The rows of the last scan, kept in a file. A torn, foreign or missing file is an empty cache.

    Attributes:
        rows: by path.
        scanned_at_ns: when that scan began, by the clock that stamps the files.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, Seen] = {}
        self.scanned_at_ns = 0
        with suppress(OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            content = path.read_bytes()
            body, checksum = content[:-32], content[-32:]
            if sha256(body).digest() == checksum:
                saved = _decoder.decode(body)
                if saved.version == _VERSION:
                    self.rows, self.scanned_at_ns = saved.rows, saved.scanned_at_ns

    def vouched(self, path: str, status: os.stat_result) -> Seen | None:
        """Returns what was seen at ``path`` if ``status`` proves that it still stands there."""
        seen = self.rows.get(path)
        if seen is None or seen.mtime_ns != status.st_mtime_ns or seen.ctime_ns != status.st_ctime_ns:
            return None
        if seen.size != status.st_size or seen.inode != status.st_ino or seen.mode != status.st_mode:
            return None
        newest = max(seen.mtime_ns, seen.ctime_ns)
        tick = TICK_NS if newest % SECOND_NS else COARSE_TICK_NS
        return seen if newest + tick < self.scanned_at_ns else None

    def now_ns(self) -> int:
        """Reads the clock that stamps the files: the file system's own, which need not be this machine's.

        Returns 0, before which nothing is vouched for, where no file can be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(self._beside("clock"), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.utime(fd)
                return os.fstat(fd).st_mtime_ns
            finally:
                os.close(fd)
        except OSError as error:
            log.warning("%s: no stat cache can be kept: %s", self.path.parent, error.strerror)
            return 0

    def replace(self, rows: dict[str, Seen], scanned_at_ns: int) -> None:
        """Takes the rows of a new scan and saves them atomically; a file that cannot be written is only logged."""
        self.rows, self.scanned_at_ns = rows, scanned_at_ns
        body = msgspec.msgpack.encode(_Saved(_VERSION, scanned_at_ns, rows))
        written = self._beside("new")
        try:
            written.write_bytes(body + sha256(body).digest())
            written.replace(self.path)
        except OSError as error:
            log.warning("%s: the stat cache was not saved: %s", self.path, error.strerror)

    def _beside(self, suffix: str) -> Path:
        return self.path.with_name(f"{self.path.name}.{suffix}")
