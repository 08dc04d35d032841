"""Slots in the log's lock file, in which processes that wait for the log leave what they want recorded.

A slot has an owner, who asks; what becomes of it is written by whoever holds the lock, and by nobody else. Both lie in
the file that is locked: whoever asks and whoever serves hold the same lock.

The file may be damaged at any time: appends are then slower, never wrong. What it says is believed only where a
checksum fits; it is read and written by calls, since a mapped file that is cut short kills its readers; and what is
asked for in a slot whose owner died is not served, since the owner's lock on the slot goes with it.
"""

from __future__ import annotations

import fcntl
import os
import struct
import time
from collections.abc import Sequence
from contextlib import suppress
from enum import IntEnum
from zlib import crc32

from msgspec import Struct

from instar.fsm.record import Recorded
from instar.fsm.words import Digest, Seq

from .gates import is_byte_locked, lock_byte, unlock_byte
from .lock import FileLock

COUNT = 32
CONTENT_MAX = 4096
_MAGIC = b"instar slots 1\n\0"
_FRESH_NS = 2_000_000_000
"""What was asked for longer ago is not served: its owner gets the lock and sees to it."""

_ASK = struct.Struct("<QIIQ8x")
"""Token, length and checksum of the content, when it was asked for."""
_OUTCOME = struct.Struct("<QQQQ16s16s32s32sB7x")
"""Token, seq, recorded time, cycle, states before and after, hashes of the event before and of the event, its fate."""
_SUM = struct.Struct("<I4x")
_OUTCOME_SIZE = _OUTCOME.size + _SUM.size
_ASKS = 1024
_OUTCOMES = _ASKS + COUNT * _ASK.size
_HEAD_SIZE = _OUTCOMES + COUNT * _OUTCOME_SIZE
_CONTENTS = 8192
_SIZE = _CONTENTS + COUNT * CONTENT_MAX
_NOTHING = bytes(_ASK.size)


class Fate(IntEnum):
    """What became of a request."""

    OPEN = 0
    """Nobody looked at it."""
    TAKEN = 1
    """It was about to be recorded; whether it was, the log knows."""
    SERVED = 2
    """It is recorded, durably."""
    LOST = 3
    """The slot was damaged; whether it was recorded, the log knows."""


class Answer(Struct, frozen=True, gc=False):
    """What became of a request, and where it stands in the log, if it does."""

    fate: Fate
    seq: Seq = Seq(0)
    recorded_at_us: int = 0
    cycle: int = 0
    state_before: str = ""
    state_after: str = ""
    prev_hash: Digest = Digest("")
    hash: Digest = Digest("")


OPEN, LOST = Answer(Fate.OPEN), Answer(Fate.LOST)


class Asked(Struct, frozen=True, gc=False):
    """A request of another process."""

    slot: int
    token: int
    content: bytes


class Slots:
    """The slots of one lock file, as one process uses them.

    Args:
        lock: the lock in whose file they lie.
    """

    def __init__(self, lock: FileLock) -> None:
        self._lock = lock
        self._mine = -1
        self._opened = 0
        """Which opening of the lock's file the slot belongs to."""
        self._token = 0
        self._cell = _NOTHING
        self._head = bytearray()
        self._taken: Sequence[tuple[Asked, Recorded]] = ()

    # ---- who asks --------------------------------------------------------------------------------------------------

    def ask(self, content: bytes) -> bool:
        """Leaves a request for whoever holds the lock; False if it cannot be left."""
        if len(content) > CONTENT_MAX or not self._has_slot():
            return False
        self._token = self._token % (2**64 - 1) + 1
        self._cell = _ASK.pack(self._token, len(content), crc32(content), time.monotonic_ns())
        try:
            os.pwrite(self._lock.fd, content, _CONTENTS + self._mine * CONTENT_MAX)
        except OSError:
            return False
        with suppress(OSError):  # what failed may have been written: it is waited for either way
            os.pwrite(self._lock.fd, self._cell, _ASKS + self._mine * _ASK.size)
        return True

    def _has_slot(self) -> bool:
        """Owns a slot from the first request on, by a lock on its place in the file."""
        if self._opened == self._lock.opened:
            return self._mine >= 0
        self._mine, self._opened = -1, self._lock.opened
        if not hasattr(fcntl, "F_OFD_SETLK"):
            return False
        with suppress(OSError):
            if not _is_laid_out(os.pread(self._lock.fd, _HEAD_SIZE, 0)):
                return False
            for slot in range(COUNT):
                with suppress(BlockingIOError):
                    lock_byte(self._lock.fd, _CONTENTS + slot * CONTENT_MAX)
                    # Whoever owned it may have died with a request in it.
                    os.pwrite(self._lock.fd, _NOTHING, _ASKS + slot * _ASK.size)
                    self._mine, self._token = slot, int.from_bytes(os.urandom(8), "little")
                    return True
        return False

    def look(self) -> Answer:
        """Says what has become of the request; without the lock, only ``SERVED`` is the last word."""
        cell, first = _ASKS + self._mine * _ASK.size, _OUTCOMES + self._mine * _OUTCOME_SIZE
        try:
            head = os.pread(self._lock.fd, _HEAD_SIZE, 0)
        except OSError:
            return LOST
        if not _is_laid_out(head) or head[cell : cell + _ASK.size] != self._cell:
            return LOST
        token, seq, at_us, cycle, before, after, prev, own, fate = _OUTCOME.unpack_from(head, first)
        if token != self._token:
            return OPEN
        if _SUM.unpack_from(head, first + _OUTCOME.size)[0] != crc32(head[first : first + _OUTCOME.size]):
            return LOST
        states = before.rstrip(b"\0").decode(), after.rstrip(b"\0").decode()
        return Answer(Fate(fate), Seq(seq), at_us, cycle, *states, Digest(prev.hex()), Digest(own.hex()))

    def withdraw(self) -> None:
        """Takes the request back; if the lock is held and nobody has taken it, nobody will."""
        self._cell = _NOTHING
        try:
            os.pwrite(self._lock.fd, _NOTHING, _ASKS + self._mine * _ASK.size)
        except OSError:
            self.leave()

    def leave(self) -> None:
        """Gives the slot up: what is asked for in a slot without an owner is not served."""
        if self._mine >= 0 and self._opened == self._lock.opened:
            with suppress(OSError):
                unlock_byte(self._lock.fd, _CONTENTS + self._mine * CONTENT_MAX)
        self._mine = -1

    # ---- who serves ------------------------------------------------------------------------------------------------

    def lay_out(self) -> None:
        """Makes room for slots in a lock file that has none, while the lock is held; nothing else is written over."""
        with suppress(OSError):
            start = os.pread(self._lock.fd, _CONTENTS, 0)
            if start.strip(b"\0"):
                return
            os.pwrite(self._lock.fd, bytes(_SIZE), 0)
            os.pwrite(self._lock.fd, _MAGIC, 0)  # last: if the disk is full there are none

    def wipe(self) -> None:
        """Writes over what was asked for and is done with, while the lock is held: it may have been erased since.

        Whoever is about to ask meanwhile finds that nobody serves it, and records its event by itself.
        """
        with suppress(OSError):
            head = os.pread(self._lock.fd, _HEAD_SIZE, 0)
            if not _is_laid_out(head):
                return
            for slot in range(COUNT):
                token, told = (
                    int.from_bytes(head[first : first + 8], "little")
                    for first in (_ASKS + slot * _ASK.size, _OUTCOMES + slot * _OUTCOME_SIZE)
                )
                if not token or token == told:
                    os.pwrite(self._lock.fd, bytes(CONTENT_MAX), _CONTENTS + slot * CONTENT_MAX)

    def asked(self, seen: set[int]) -> list[Asked]:
        """Gives what living processes ask for and nobody has looked at, while the lock is held.

        Args:
            seen: the tokens of requests that are not to be given again; those that are given are added.
        """
        with suppress(OSError):
            head = os.pread(self._lock.fd, _HEAD_SIZE, 0)
            if _is_laid_out(head):
                numbers = memoryview(head).cast("Q")
                asks = numbers[_ASKS // 8 : _OUTCOMES // 8 : _ASK.size // 8].tolist()
                outcomes = numbers[_OUTCOMES // 8 :: _OUTCOME_SIZE // 8].tolist()
                self._head = bytearray(head)
                return [
                    asked
                    for slot, token in enumerate(asks)
                    if token
                    and token != outcomes[slot]
                    and token not in seen
                    and (asked := self._read(head, slot, seen))
                ]
        return []

    def _read(self, head: bytes, slot: int, seen: set[int]) -> Asked | None:
        token, length, checksum, at_ns = _ASK.unpack_from(head, _ASKS + slot * _ASK.size)
        seen.add(token)
        place = _CONTENTS + slot * CONTENT_MAX
        if not 0 <= time.monotonic_ns() - at_ns < _FRESH_NS or not is_byte_locked(self._lock.fd, place):
            return None
        content = os.pread(self._lock.fd, min(length, CONTENT_MAX), place)
        return Asked(slot, token, content) if crc32(content) == checksum else None

    def take(self, taken: Sequence[tuple[Asked, Recorded]]) -> None:
        """Says where in the log requests are going to stand; only then may they be committed.

        Raises:
            OSError: it cannot be said.
        """
        self._taken = taken
        self._tell(Fate.TAKEN)

    def served(self) -> None:
        """Says that what was taken is recorded, durably."""
        with suppress(OSError):  # then whoever asked finds it in the log
            self._tell(Fate.SERVED)

    def _tell(self, fate: Fate) -> None:
        head = self._head
        for asked, record in self._taken:
            place = record.seq, record.recorded_at_us, record.cycle
            states = record.state_before._value_.encode(), record.state_after._value_.encode()
            hashes = bytes.fromhex(record.prev_hash), bytes.fromhex(record.hash)
            first = _OUTCOMES + asked.slot * _OUTCOME_SIZE
            _OUTCOME.pack_into(head, first, asked.token, *place, *states, *hashes, fate)
            _SUM.pack_into(head, first + _OUTCOME.size, crc32(head[first : first + _OUTCOME.size]))
        slots = [asked.slot for asked, _ in self._taken]
        begin, end = _OUTCOMES + min(slots) * _OUTCOME_SIZE, _OUTCOMES + (max(slots) + 1) * _OUTCOME_SIZE
        # In one call: what lies between was read under the lock, and nobody else writes there.
        os.pwrite(self._lock.fd, head[begin:end], begin)


def _is_laid_out(head: bytes) -> bool:
    return len(head) == _HEAD_SIZE and head.startswith(_MAGIC)
