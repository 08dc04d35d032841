"""Stores blobs in less room: pressed hard, and older versions of a file or folder against the next newer one.

What stands now is read most, so it stands alone; a collection takes old versions first, and nothing rests on them. Each
new form is read back and compared before it replaces the old one, in one transaction; a process that dies loses
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from msgspec import Struct

from instar.fsm.errors import BlobCorrupt, BlobMissing
from instar.fsm.words import Digest, digest_of
from instar.store.failpoints import failpoint
from instar.store.log import EventLog
from instar.store.packing import DEPTH_MAX, base_of, is_pressed, press, press_against, unpack
from instar.store.ports import Row

from .versions import Versions

_RADIX = 8
"""Version n rests on the one before it, each 8th on the 8th before, each 64th on the 64th: few steps, small deltas."""
_BATCH_BYTES = 4 << 20
_BATCH_ROWS = 2000
_BYTES_MIN = 96
"""A smaller blob gains nothing."""

Report = Callable[[int, int], object]


class Compacted(Struct, frozen=True, kw_only=True):
    """What a compaction did."""

    blobs: int
    against: int
    """How many of them are stored against another."""
    before_bytes: int
    after_bytes: int


class _Forms:
    """The stored forms as they are, and as they will be."""

    def __init__(self, log: EventLog) -> None:
        self.log = log
        self.size: dict[Digest, int] = {}
        self.base: dict[Digest, Digest] = {}
        self.pressed: set[Digest] = set()
        for digest, _, stored, head in log.reader.stored_forms():
            self.size[digest] = stored
            if is_pressed(head):
                self.pressed.add(digest)
            base = base_of(head)
            if base is not None:
                self.base[digest] = base
        self.height: dict[Digest, int] = {}
        """The longest way from a blob that rests on it, over others, to it."""
        for digest in self.base:
            self._raise(digest)

    def depth(self, digest: Digest) -> int:
        """Counts the blobs on which one rests."""
        steps = 0
        while digest in self.base:
            digest = self.base[digest]
            steps += 1
        return steps

    def admits(self, digest: Digest, base: Digest) -> bool:
        """Says whether a blob may rest on another: in no circle, and not too deep."""
        below: Digest | None = base
        while below is not None:
            if below == digest:
                return False
            below = self.base.get(below)
        return self.depth(base) + 1 + self.height.get(digest, 0) <= DEPTH_MAX

    def rest(self, digest: Digest, base: Digest) -> None:
        """Takes in that a blob rests on another."""
        self.base[digest] = base
        self._raise(digest)

    def _raise(self, digest: Digest) -> None:
        steps = self.height.get(digest, 0)
        while digest in self.base:
            digest, steps = self.base[digest], steps + 1
            if self.height.get(digest, 0) >= steps:
                return
            self.height[digest] = steps


def compact(log: EventLog, report: Report | None = None) -> Compacted:
    """Stores every blob of the database that no compaction has seen in less room.

    Raises:
        BlobMissing, BlobCorrupt: one cannot be read; those before it are stored anew, and nothing is lost.
        LogUnavailable: the disk is full or read-only.
    """
    forms = _Forms(log)
    before = sum(forms.size.values())
    count = against = done = 0
    wanted = sum(digest not in forms.pressed for digest in forms.size)
    for rows in _batches(_pressed(forms, Versions.of_log(log.reader, log.blobs))):
        failpoint("gc.pressed")
        with log.upkeep() as journal:
            left = [row for row in rows if _still_stands(log, row)]
            if left:
                journal.rewrite(left)
        failpoint("gc.rewritten")
        for stored, digest in left:
            forms.size[digest] = len(stored)
            against += base_of(stored) is not None
        count += len(left)
        done += len(rows)
        if report:
            report(done, wanted)
    return Compacted(blobs=count, against=against, before_bytes=before, after_bytes=sum(forms.size.values()))


def _still_stands(log: EventLog, row: Row) -> bool:
    """Looks, while nobody else writes, whether a blob and its base were erased meanwhile."""
    base = base_of(row[0])
    return log.reader.blob_known(row[1]) and (base is None or log.reader.blob_known(base))


def _pressed(forms: _Forms, versions: Iterable[list[Digest]]) -> Iterator[tuple[bytes, Digest]]:
    """Yields the new forms that take less room than the old ones, each verified."""
    for chain in versions:
        stored = [digest for digest in chain if digest in forms.size]
        for place in range(1, len(stored)):
            digest, base = stored[place], stored[_base_place(place)]
            if digest not in forms.pressed and digest not in forms.base and forms.admits(digest, base):
                found = _against(forms, digest, base)
                if found is not None:
                    forms.pressed.add(digest)
                    forms.rest(digest, base)
                    yield found, digest
    for digest in list(forms.size):
        if digest not in forms.pressed:
            content = forms.log.blobs.get(digest)
            if len(content) >= _BYTES_MIN:
                yield _verified(press(content), b"", digest), digest


def _base_place(place: int) -> int:
    """Gives the place of the version on which one rests, counted from the newest, 0."""
    step = 1
    while place % (step * _RADIX) == 0:
        step *= _RADIX
    return place - step


def _against(forms: _Forms, digest: Digest, base: Digest) -> bytes | None:
    """Stores a blob against another; None where that takes no less room."""
    blobs = forms.log.blobs
    try:
        content, base_content = blobs.get(digest), blobs.get(base)
    except (BlobMissing, BlobCorrupt):
        return None
    if len(content) < _BYTES_MIN:
        return None
    found = press_against(content, base, base_content)
    return _verified(found, base_content, digest) if len(found) < forms.size[digest] // 2 else None


def _verified(stored: bytes, base: bytes, digest: Digest) -> bytes:
    """Reads a form back before anything is dropped for it.

    Raises:
        BlobCorrupt: it does not give the content; a fault of memory or library.
    """
    if digest_of(unpack(stored, base)) != digest:
        raise BlobCorrupt(
            f"blob {digest} was pressed to something else: nothing was changed. Check this machine's RAM."
        )
    return stored


def _batches(rows: Iterable[tuple[bytes, Digest]]) -> Iterator[list[tuple[bytes, Digest]]]:
    batch: list[tuple[bytes, Digest]] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += len(row[0])
        if size >= _BATCH_BYTES or len(batch) >= _BATCH_ROWS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
