"""What else a transaction must do that takes blobs away: free those that are stored against one that goes."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from instar.fsm.codec import decode_event
from instar.fsm.events import PayloadErased
from instar.fsm.words import Digest

from .blobs import BlobStore
from .packing import base_of, press
from .ports import Row
from .reader import LogReader


def erased_in(rows: Sequence[Row]) -> frozenset[Digest]:
    """Names the blobs that go with erasures among the rows of an append."""
    events = [decode_event(row[1], row[2], row[10].encode()) for row in rows if row[1] == PayloadErased.__name__]
    return frozenset(digest for event in events if isinstance(event, PayloadErased) for digest in event.blobs)


def freed(reader: LogReader, blobs: BlobStore, gone: Collection[Digest]) -> list[Row]:
    """Gives, in a form that stands alone, the blobs that stay and are stored against one that goes.

    Raises:
        BlobMissing, BlobCorrupt: one of them cannot be read any more.
    """
    if not gone:
        return []
    resting = [
        digest
        for digest, _, _, head in reader.stored_forms()
        if digest not in gone and (base := base_of(head)) is not None and base in gone
    ]
    return [(press(blobs.get(digest)), digest) for digest in resting]
