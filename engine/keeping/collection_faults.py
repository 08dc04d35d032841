"""Whether each collection of a log kept what it says that it kept."""

from __future__ import annotations

from collections.abc import Iterator

from instar.fsm.errors import InstarError
from instar.fsm.events import BlobsCollected
from instar.fsm.record import Recorded
from instar.store.collected import listed_digests
from instar.store.naming import digests_of
from instar.store.ports import Blobs
from instar.store.reader import LogReader


def collection_faults(reader: LogReader, blobs: Blobs) -> list[str]:
    """Says which collection lists what it should have kept, or is not what its event says."""
    faults: list[str] = []
    for record in reader.read(types=[BlobsCollected]):
        assert isinstance(record.event, BlobsCollected)
        try:
            faults += _faults(reader, blobs, record, record.event)
        except InstarError as error:
            faults.append(f"the collection of event {record.seq} cannot be checked: {error}")
    return faults


def _faults(reader: LogReader, blobs: Blobs, record: Recorded, event: BlobsCollected) -> Iterator[str]:
    listed = listed_digests(blobs.get(event.blobs))
    if len(listed) != event.count:
        yield f"event {record.seq} collected {event.count} blobs, and lists {len(listed)}"
    for kept in _kept(reader, record, event):
        for _, digest in digests_of(kept.event):
            if digest in listed:
                yield f"event {record.seq} collected blob {digest[:12]}, which event {kept.seq} names, and should keep"


def _kept(reader: LogReader, record: Recorded, event: BlobsCollected) -> Iterator[Recorded]:
    for seq in event.points:
        yield reader.get(seq)
    yield from reader.read(event.kept_from, record.seq - 1)
