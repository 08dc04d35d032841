"""The copies of what is to be erased: found in the order of the log, each with what is left of it."""

from __future__ import annotations

import msgspec
import numpy as np
from msgspec.structs import replace

from instar.engine.generate_dataset import Dataset
from instar.engine.runtime import Runtime
from instar.fsm.codec import encode_event
from instar.fsm.erasure import remains_of
from instar.fsm.events import (
    AnyEvent,
    ChangeObserved,
    CheckpointTrained,
    DatasetGenerated,
    DiffComputed,
    MemoryReembedded,
    MutationAccepted,
    MutationApplied,
    MutationRejected,
    OutcomeRewarded,
    PayloadErased,
    RollbackFinished,
    SignalEmbedded,
    TaskQueued,
    WorkspaceInitialized,
)
from instar.fsm.record import Recorded
from instar.fsm.words import Digest, Seq
from instar.store.trees import read_tree

from .named_blobs import NamedBlobs, Parts
from .read_lines import Line, lines_of

DERIVED = (
    *(DiffComputed, SignalEmbedded, MemoryReembedded, DatasetGenerated, CheckpointTrained, PayloadErased),
    *(MutationAccepted, MutationApplied, MutationRejected, OutcomeRewarded),
)
_STILL_NAMED = {
    kind.__name__ for kind in (ChangeObserved, DatasetGenerated, TaskQueued, MutationAccepted, MutationRejected)
}
"""Events whose remains name a blob that goes all the same: a replay compares the name, and needs no bytes."""
_DISPLACING = {MutationApplied.__name__, RollbackFinished.__name__}
"""Events that name what a file held when a restore displaced it: a copy of that content. Trees stand in others too."""


class Draft:
    """Collects erasures; the copies are found in the order of the log."""

    def __init__(self, runtime: Runtime, reason: str) -> None:
        self.runtime, self.reason = runtime, reason
        self.signals: set[Seq] = set()
        self.content: Digest | None = None
        """Of a file: what was asked for, so that it goes whatever tree has it."""
        self.lines: frozenset[Line] = frozenset()
        self.tasks: set[Seq] = set()
        """Mutations whose patch goes."""
        self.judged: set[Seq] = set()
        """What came of them."""
        self.erasures: dict[Seq, PayloadErased] = {}
        self.candidates: dict[Digest, None] = {}
        self.made: set[Digest] = set()
        """Blobs of what remains."""
        self.datasets: set[Digest] = set()
        self.learned: dict[Digest, None] = {}
        self.dropped: set[tuple[Seq, int]] = set()

    def add(self, record: Recorded, remains: AnyEvent, *blobs: Digest | None) -> None:
        """Erases one event down to what remains, and the blobs that it alone needs."""
        self.erasures[record.seq] = PayloadErased(
            target=record.seq,
            payload_hash=record.payload_hash,
            remains=encode_event(remains).decode(),
            reason=self.reason,
        )
        self.candidates.update(dict.fromkeys(blob for blob in blobs if blob is not None))

    def put(self, content: bytes) -> Digest:
        """Stores what remains of a blob."""
        digest = self.runtime.blobs.put(content)
        self.made.add(digest)
        return digest

    def add_task(self, record: Recorded) -> None:
        """Erases a task with its patch."""
        if isinstance(record.event, TaskQueued):
            self.tasks.add(record.seq)
            self.add(record, remains_of(record.event), record.event.patch)


def take_derived(draft: Draft, record: Recorded) -> None:
    """Erases what an event copied from what goes."""
    signals = draft.signals
    match record.event:
        case DiffComputed(items=items) if any(item.seq in signals for item in items):
            texts = [item.text for item in items if item.seq in signals]
            draft.add(record, remains_of(record.event, signals), *texts)
        case SignalEmbedded(items=items) if any(item.seq in signals for item in items):
            draft.dropped.update((record.seq, index) for index, item in enumerate(items) if item.seq in signals)
            draft.add(record, _embedded(draft, record.event), record.event.vectors, record.event.texts)
        case MemoryReembedded(rows=rows) if any(tuple(row) in draft.dropped for row in rows):
            draft.add(record, _reembedded(draft, record.event), record.event.vectors)
        case DatasetGenerated() as made if record.seq not in draft.erasures and _holds(draft, made):
            draft.datasets.add(made.dataset)
            draft.add(record, made, made.dataset, made.logs if draft.lines else None, made.vectors)
        case CheckpointTrained(dataset=dataset, checkpoint=checkpoint, brought=None) if dataset in draft.datasets:
            draft.learned[checkpoint] = None
        case (MutationAccepted() | MutationRejected()) as tried if tried.task in draft.tasks:
            draft.judged.add(record.seq)
            draft.add(record, remains_of(tried), tried.patch, tried.log)
        case MutationApplied() if record.cause in draft.judged:
            draft.judged.add(record.seq)
        case OutcomeRewarded(subject="mutation") as verdict if record.cause in draft.judged:
            signals.add(record.seq)
            draft.add(record, remains_of(verdict))
        case PayloadErased(target=target, remains=remains) if target in draft.erasures and remains:
            # An earlier erasure of the same event keeps what was left of it then, and with it this text.
            draft.add(record, replace(record.event, remains=""))


def _embedded(draft: Draft, event: SignalEmbedded) -> SignalEmbedded:
    """Cuts the rows of the signals that go out of the vectors and texts of a cycle."""
    left = remains_of(event, draft.signals)
    assert isinstance(left, SignalEmbedded)
    kept = [(index, item.row) for index, item in enumerate(left.items) if item.row is not None]
    place = {index: number for number, (index, _) in enumerate(kept)}
    items = tuple(replace(item, row=place.get(index)) for index, item in enumerate(left.items))
    if event.vectors is None:
        return replace(left, items=items)
    blobs = draft.runtime.blobs
    vectors = _rows(blobs.get(event.vectors), event.dim)[[row for _, row in kept]]
    texts = msgspec.json.decode(blobs.get(event.texts), type=list[str]) if event.texts else None
    return replace(
        left,
        items=items,
        vectors=draft.put(vectors.tobytes()),
        texts=draft.put(msgspec.json.encode([texts[row] for _, row in kept])) if texts is not None else None,
    )


def _reembedded(draft: Draft, event: MemoryReembedded) -> MemoryReembedded:
    kept = [place for place, row in enumerate(event.rows) if tuple(row) not in draft.dropped]
    vectors = _rows(draft.runtime.blobs.get(event.vectors), event.dim)[kept]
    blob = draft.put(vectors.tobytes())
    return replace(event, rows=tuple(event.rows[place] for place in kept), vectors=blob)


def _rows(content: bytes, dim: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.frombuffer(content, dtype="<f4").reshape(-1, dim)  # (rows, dim) float32


def _holds(draft: Draft, made: DatasetGenerated) -> bool:
    """Says whether a data set has a row of what goes."""
    blobs = draft.runtime.blobs
    if draft.lines:
        return not draft.lines.isdisjoint(lines_of(blobs, made))
    if not blobs.has(made.dataset):  # it went with an earlier erasure
        return False
    content = Dataset.parse(blobs.get(made.dataset))
    return any(not draft.signals.isdisjoint(row.events) for row in content.rows)


def parted_blobs(draft: Draft) -> tuple[tuple[Digest, ...], tuple[Digest, ...]]:
    """Parts the blobs that go from those that an event which stays, or what remains of another, still needs."""
    runtime = draft.runtime
    reader = runtime.reader
    needed = NamedBlobs(reader)
    for row in reader.rows():
        erasure = draft.erasures.get(row[0])
        if row[1] in _DISPLACING or (erasure is not None and row[1] in _STILL_NAMED):
            continue
        if erasure is None:
            needed.take(row)
        else:
            needed.take((*row[:10], erasure.remains, *row[11:]))
    parts = Parts(runtime.blobs)
    # A tree may need the content of a change, and a training the data set that it learned from: they are copies of
    # what was asked for, and go all the same. A captured output that is the same as a file's content is none.
    stays = {one.digest for one in needed if one.kind == "blob"} - draft.datasets
    for one in needed:
        if one.kind == "checkpoint":
            stays.update(parts.of("checkpoint", one.digest))
    stays |= _in_first_tree(draft) - {draft.content}
    gone = tuple(digest for digest in draft.candidates if digest not in stays)
    return gone, tuple(digest for digest in draft.candidates if digest in stays - draft.made)


def _in_first_tree(draft: Draft) -> set[Digest]:
    """Names those of the blobs which no change brought, but which files held from the first event on."""
    runtime = draft.runtime
    first = runtime.reader.get(1).event
    if not isinstance(first, WorkspaceInitialized) or set(draft.candidates) <= {draft.content, *draft.datasets}:
        return set()
    files = read_tree(runtime.blobs, first.tree).files
    return set(draft.candidates) & {entry.blob for entry in files.values()}
