"""A small log with everything in it, and what becomes of it when single bytes of its files change."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from msgspec.structs import replace

from instar.engine.bundles.anchor import Anchor, check_anchor, make_anchor
from instar.engine.keeping.integrity import check
from instar.fsm.codec import encode_event
from instar.fsm.erasure import remains_of
from instar.fsm.errors import InstarError
from instar.fsm.events import PayloadErased, TaskQueued
from instar.store import appending, drafting
from instar.store.blobs import FILE_BYTES_MIN, BlobStore
from instar.store.log import EventLog, Pending, create_log
from instar.store.reader import LogReader
from instar.store.trees import Entry, Tree, write_tree
from tests.store.logs import INIT, feedback

TABLES = (
    *("SELECT * FROM events", "SELECT digest, size FROM blobs", "SELECT * FROM state_snapshots"),
    *("SELECT * FROM cursors", "SELECT * FROM alembic_version", "SELECT type, name, tbl_name, sql FROM sqlite_master"),
)
"""All columns of all rows; what a blob unpacks to is read through the store."""
LOOKUPS = (
    "SELECT seq FROM events WHERE key = 'key {n}'",
    "SELECT cause, seq FROM events INDEXED BY events_erasures WHERE type = 'PayloadErased' AND cause = {n}",
    "SELECT max(seq) FROM events WHERE recorded_at_us <= (SELECT recorded_at_us FROM events WHERE seq = {n})",
)
"""What reads by an index: a damaged one may give other rows than the table holds."""
LARGE = b"one line of a large blob, again and again\n" * (FILE_BYTES_MIN // 42 + 1)
"""It is packed into few bytes, so that each of them can be flipped."""


class Outcome(StrEnum):
    """What became of a flip."""

    FOUND = "found"
    HARMLESS = "harmless"
    """All that can be read is what it was."""
    MISSED = "missed"


@dataclass
class Count:
    """What became of many flips."""

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    missed: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        told = ", ".join(f"{self.outcomes[outcome]} {outcome}" for outcome in Outcome)
        return f"{self.outcomes.total()} flips: {told}"

    def add(self, outcome: Outcome, where: str) -> None:
        """Counts one."""
        self.outcomes[outcome] += 1
        if outcome is Outcome.MISSED:
            self.missed.append(where)

    def join(self, other: Count) -> None:
        """Takes up what another process counted."""
        self.outcomes.update(other.outcomes)
        self.missed += other.missed


def small_log(folder: Path) -> Path:
    """Writes a log with keys, causes, blobs of both kinds, an erasure, a cursor, state digests and saved states."""
    every = drafting.DIGEST_EVERY, appending.SNAPSHOT_EVERY
    drafting.DIGEST_EVERY = appending.SNAPSHOT_EVERY = 4
    try:
        create_log(folder / "log.db")
        log = EventLog(folder / "log.db")
        _fill(log)
    finally:
        drafting.DIGEST_EVERY, appending.SNAPSHOT_EVERY = every
    log.close()
    settle(folder / "log.db")
    return folder / "log.db"


def _fill(log: EventLog) -> None:
    file = Entry("file", 0o644, log.blobs.put(b"print('a file of the tree')\n"), 28)
    log.append(replace(INIT, tree=write_tree(log.blobs, Tree(files={"a.py": file}, unmanaged={"pipe": "a fifo"}))))
    for number in range(5):
        log.append(feedback(number), key=f"key {number}")
    log.transact(lambda _: [Pending(feedback(5)), Pending(feedback(6), after=1, key="key 6")])
    for content in (b"a small blob", LARGE):
        log.append(TaskQueued(task="mutate", source="t", patch=log.blobs.put(content)))
    secret = log.append(feedback(7, input="what is to be erased"))
    remains = encode_event(remains_of(secret.event)).decode()
    log.erase([PayloadErased(target=secret.seq, payload_hash=secret.payload_hash, remains=remains, reason="asked")])
    follower = log.follow("reader")
    follower.acknowledge(log.reader.get(3))


def settle(path: Path) -> None:
    """Brings all that is in the write-ahead log into the database."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for ending in ("-wal", "-shm"):
        path.with_name(path.name + ending).unlink(missing_ok=True)


class Flipped:
    """A copy of a log whose files can be damaged and mended.

    Args:
        source: the log.
        folder: where the copy goes.
        anchored: let an anchor of the whole log's head take part in the verification.
    """

    def __init__(self, source: Path, folder: Path, *, anchored: bool = False) -> None:
        shutil.copytree(source.parent, folder, ignore=shutil.ignore_patterns("*-shm", "*.lock"))
        self.path = folder / source.name
        self._files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        self._anchor = self._anchored() if anchored else None
        self._mend()
        self.whole = self._content()
        assert self.whole is not None
        assert not self.verify(), self.verify()
        self._mend()

    def _anchored(self) -> Anchor:
        with closing(LogReader(self.path)) as reader:
            return make_anchor(reader)

    def _mend(self) -> None:
        for path, content in self._files.items():
            if not path.exists() or path.stat().st_size != len(content):
                path.write_bytes(content)
        for ending in ("-wal", "-shm"):
            extra = self.path.with_name(self.path.name + ending)
            if extra not in self._files:
                extra.unlink(missing_ok=True)

    def flip(self, file: Path, offset: int, mask: int) -> Outcome:
        """Changes one byte, looks at everything, and puts it back."""
        content = self._files[file]
        with file.open("r+b") as changed:
            os.pwrite(changed.fileno(), bytes([content[offset] ^ mask]), offset)
        return self._judge(file)

    def put(self, file: Path, content: bytes) -> Outcome:
        """Puts another content in a file's place, looks at everything, and puts it back."""
        file.write_bytes(content)
        return self._judge(file)

    def _judge(self, file: Path) -> Outcome:
        try:
            if self._content() == self.whole:
                return Outcome.HARMLESS
            return Outcome.FOUND if self.verify() else Outcome.MISSED
        finally:
            file.write_bytes(self._files[file])
            self._mend()

    def verify(self) -> list[str]:
        """Says what ``instar verify`` finds."""
        try:
            with closing(LogReader(self.path)) as reader:
                problems = check(reader).problems
                if self._anchor is not None:
                    check_anchor(reader, self._anchor)
                return problems
        except InstarError as error:
            return [str(error)]

    def _content(self) -> object:
        """Gives all that can be read; None where something cannot."""
        # The last one: a column that holds another type than it was given.
        with suppress(sqlite3.Error, InstarError, OSError, UnicodeError, MemoryError, OverflowError, TypeError):
            with closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)) as connection:
                rows = [connection.execute(table).fetchall() for table in TABLES]
                settings = [connection.execute(f"PRAGMA {name}").fetchone() for name in ("application_id", "encoding")]
                found = [connection.execute(sql.format(n=n)).fetchall() for sql in LOOKUPS for n in range(14)]
                digests = [digest for digest, _ in rows[1]] + ["0" * 64]
                found += [
                    connection.execute("SELECT size FROM blobs WHERE digest = ?", (one,)).fetchall() for one in digests
                ]
            with closing(LogReader(self.path)) as reader:
                blobs = BlobStore(self.path.with_name("blobs"), reader)
                kept = [blobs.get(digest) for digest in (*digests[:-1], *blobs.files())]
            return rows, settings, found, kept
        return None


def flip_all(
    source: Path, folder: Path, file: Path, offsets: Iterable[int], *, anchored: bool = False, both: bool = True
) -> Count:
    """Flips one random bit, and then all eight, of each byte in turn; ``file`` is a path within the log's folder.

    Without ``both`` every other byte has one bit flipped, the rest all eight: half the time.
    """
    flipped = Flipped(source, folder, anchored=anchored)
    count = Count()
    for offset in offsets:
        masks = 1 << random.Random(offset).randrange(8), 0xFF
        for mask in masks if both else masks[offset // 2 % 2 :][:1]:
            try:
                outcome = flipped.flip(flipped.path.parent / file, offset, mask)
            except Exception as error:  # a fault that is no InstarError: the user would see a traceback
                flipped = Flipped(source, folder / f"again-{offset}-{mask}", anchored=anchored)
                count.add(Outcome.MISSED, f"{file} byte {offset} ^ {mask:#04x}: {error!r}")
                continue
            count.add(outcome, f"{file} byte {offset} ^ {mask:#04x}")
    return count
