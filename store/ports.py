"""The ports of the store: what the rooms above may rely on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

from msgspec import Struct

from instar.fsm.words import Digest, Seq

from .asking import Asking

Row = tuple[Any, ...]
"""One row of a table, in the order of its columns."""


class Blobs(Protocol):
    """Content-addressed bytes, write-once."""

    def put(self, content: bytes, /) -> Digest:
        """Stores bytes under their sha256; storing the same bytes again does nothing."""

    def get(self, digest: Digest) -> bytes:
        """Returns the bytes, verified.

        Raises:
            BlobMissing: nothing is stored under this name.
            BlobCorrupt: what is stored does not hash to its name.
        """

    def has(self, digest: Digest) -> bool:
        """Says whether something is stored under this name."""


@runtime_checkable
class ManyBlobs(Protocol):
    """Gives many at once quicker than one by one."""

    def get_many(self, digests: Sequence[Digest], /) -> list[bytes]:
        """Returns the bytes of each, as ``Blobs.get`` does."""


def contents_of(blobs: Blobs, digests: Sequence[Digest]) -> list[bytes]:
    """Returns the bytes of several blobs, in the way that suits the store.

    Raises:
        BlobMissing, BlobCorrupt: as ``Blobs.get``.
    """
    return blobs.get_many(digests) if isinstance(blobs, ManyBlobs) else [blobs.get(each) for each in digests]


class BlobIntake(Blobs, Protocol):
    """Takes in what a whole tree holds."""

    def prepared(self, hashed: Sequence[tuple[Digest, bytes]], /) -> Callable[[], None]:
        """Asks which of several contents are new, each given with its sha256; may be called by several threads.

        Returns:
            What stores them, to be called once, by any thread.
        """

    def put_parts(self, parts: Iterator[bytes], /, size: int) -> Digest:
        """Stores ``size`` bytes, over a MiB, that need not be in memory at once.

        Raises:
            Exception: what ``parts`` raises; nothing was stored.
        """

    def lacking(self, digests: Iterable[Digest], /) -> set[Digest]:
        """Says which of some blobs are not stored."""


class Source(Protocol):
    """A read-only connection to the tables of one log; safe to share between threads."""

    schema: str
    """The Alembic revision that the tables have."""

    def all(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """Gives every row of a query, whose parameters are written ``?``.

        Raises:
            LogUnavailable, LogCorrupt: the log cannot be read.
        """

    def changed_token(self) -> int:
        """A number that changes when another connection commits; cheap to ask for."""

    def close(self) -> None:
        """Closes the connection."""


class Batch(Struct, frozen=True):
    """What one transaction makes durable: all of it or nothing."""

    events: Sequence[Row]
    blobs: Sequence[Row]
    """Digest, size and compressed bytes of each."""
    snapshot: Row | None
    """Position, digest and JSON of a state."""
    rewritten: Sequence[Row] = ()
    """Stored form and digest of blobs that refer to one that goes: from here on they do not."""
    doomed: Sequence[Digest] = ()
    """Blobs that the last event collects."""
    erases: bool = False
    """An event among them erases a payload."""


STAGED = 250
"""Events that are staged at once."""


class Journal(Protocol):
    """The one writing connection of a process to one log."""

    @property
    def asking(self) -> Asking | None:
        """How processes record each other's events; None if they do not."""

    def exclusive(self, head: Seq) -> AbstractContextManager[Sequence[Row]]:
        """Holds the log against every other writer, of this machine or another.

        Args:
            head: the head as this process knows it.

        Yields:
            The events that others appended after it, in the order of the table's columns.

        Raises:
            LogUnavailable: it cannot be had.
        """

    def let_go(self) -> None:
        """Gives the log back if this thread holds it, wherever that was cut off; what was not committed is gone."""

    def append(self, row: Row) -> bool:
        """Makes one event durable that follows the head as this process knows it, if that can be done in one step.

        Returns:
            False if nothing was recorded, and the log is to be held and looked at first.

        Raises:
            LogUnavailable: the disk is full or read-only; nothing was recorded.
        """

    def stage(self, rows: Sequence[Row]) -> bool:
        """Begins to write ``STAGED`` events while the next are drafted; only to be called while the log is held.

        The next ``write``, which is not given them again, makes them durable; if none comes, they are gone.

        Returns:
            False if they are to be given to ``write``, as all others.
        """

    def write(self, batch: Batch) -> None:
        """Makes a batch durable; only to be called while the log is held.

        Raises:
            LogUnavailable: the disk is full or read-only, the server gone; nothing was recorded.
            PositionConflict: somebody appended past the lock; nothing was recorded.
        """

    def set_cursor(self, name: str, seq: Seq, digest: Digest) -> None:
        """Records durably how far a follower has come; only to be called while the log is held."""

    def rewrite(self, rows: Sequence[Row]) -> None:
        """Stores blobs in another form, all or none; only to be called while the log is held, and only with forms that
        were verified.

        Args:
            rows: the new form and the digest of each.
        """

    def thin(self, seqs: Sequence[Seq]) -> None:
        """Takes saved states away; only to be called while the log is held."""

    def hold(self) -> None:
        """Makes this process the one worker of a stream, until that is given back; only to be called while the log is
        held. A connection that broke holds the stream anew before anything is written by it.

        Raises:
            WorkerBusy: there is one, perhaps of another folder; also by a later write that finds one.
            LogUnavailable: the server cannot be reached.
        """

    def give_back(self) -> None:
        """Gives the stream back to other workers."""

    def vacuum(self) -> None:
        """Gives room that is no longer used back to the file system; needs as much room again while it runs.

        Raises:
            LogUnavailable: there is too little room; nothing was changed.
        """

    def checkpoint(self, patience_ms: int = 250) -> bool:
        """Takes what was erased out of files that hold what was written lately; says whether no reader kept it there.

        Args:
            patience_ms: how long readers are waited for.
        """

    def close(self) -> None:
        """Closes the connection; what was written is durable already."""
