"""Erases what an event says, and every copy that was derived from it, on lawful request.

An erasure is an event of its own. It keeps what is left of the erased one, so that every fold gives the same as before,
and the chain verifies, since it runs over the payload's hash. Weights cannot be erased: the checkpoints that learned
from the event are named.
"""

from __future__ import annotations

import msgspec
import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from instar.engine.generate_dataset import Dataset
from instar.engine.runtime import Runtime
from instar.fsm.codec import decode_event, encode_event
from instar.fsm.erasure import remains_of
from instar.fsm.errors import ConfigError, EffectFailedError, RollbackRefused
from instar.fsm.events import (
    AnyEvent,
    ChangeObserved,
    CheckpointTrained,
    DatasetGenerated,
    DiffComputed,
    MemoryReembedded,
    PayloadErased,
    SignalEmbedded,
)
from instar.fsm.evolve import evolve
from instar.fsm.record import Recorded
from instar.fsm.words import Digest, Seq
from instar.store.reader import LogReader
from instar.store.trees import read_tree

from .named_blobs import NamedBlobs, Parts

_DERIVED = (DiffComputed, SignalEmbedded, MemoryReembedded, DatasetGenerated, CheckpointTrained, PayloadErased)


class ErasurePlan(Struct, frozen=True, kw_only=True):
    """What an erasure would take away: nothing is gone yet."""

    target: Seq
    type: str
    events: tuple[Seq, ...]
    """Events that hold the text, the target first; the payload of each is erased."""
    blobs: tuple[Digest, ...]
    """Blobs that go with them."""
    kept: tuple[Digest, ...]
    """Blobs that hold it too, but that other events need: they stay."""
    learned: tuple[Digest, ...]
    """Checkpoints that learned from it. Weights cannot be erased."""
    erasures: tuple[PayloadErased, ...]


class _Draft:
    """Collects erasures; the copies are found in the order of the log."""

    def __init__(self, runtime: Runtime, signals: list[Recorded], reason: str) -> None:
        self.runtime, self.reason = runtime, reason
        self.signals = {record.seq for record in signals}
        self.erasures: dict[Seq, PayloadErased] = {}
        self.candidates: dict[Digest, None] = {}
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


def plan_erasure(runtime: Runtime, seq: Seq, reason: str) -> ErasurePlan:
    """Finds everything that holds what an event says.

    Args:
        runtime: the workspace.
        seq: a signal: feedback, a task, a skipped input, a failure, or a change whose new content is to go.
        reason: on whose request and why; it is recorded.

    Raises:
        ConfigError: the event holds nothing to erase, or was erased before.
        RollbackRefused: the content still stands in the workspace.
    """
    record = runtime.reader.get(seq)
    _check(runtime, record, reason)
    signals = _same_content(runtime.reader, record)
    draft = _Draft(runtime, signals, reason)
    for signal in signals:
        draft.add(signal, remains_of(signal.event), getattr(signal.event, "log", None), _content(record.event))
    for derived in runtime.reader.read(min(draft.signals) + 1, types=_DERIVED):
        _take_derived(draft, derived)
    gone, kept = _blobs(runtime.reader, draft)
    erasures = list(draft.erasures.values())
    erasures[0] = replace(erasures[0], blobs=gone)
    return ErasurePlan(
        target=seq,
        type=type(record.event).__name__,
        events=tuple(draft.erasures),
        blobs=gone,
        kept=kept,
        learned=tuple(draft.learned),
        erasures=tuple(erasures),
    )


def erase(runtime: Runtime, plan: ErasurePlan) -> list[Recorded]:
    """Carries a plan out: one transaction records the erasures and takes payloads and blobs away.

    Raises:
        EffectFailedError: what remains would not fold to the same state; nothing was erased.
        LogUnavailable: the disk is full or read-only; nothing was erased.
    """
    for erasure in plan.erasures:
        _check_fold(runtime.reader, erasure)
    _drop_copies(runtime, plan)
    records = runtime.log.erase(plan.erasures)
    _drop_copies(runtime, plan)  # once more: another process may have written them meanwhile
    return records


def _drop_copies(runtime: Runtime, plan: ErasurePlan) -> None:
    """Removes files that are made again from the log, with what is left in it."""
    runtime.memory.prune(())
    if any(isinstance(runtime.reader.get(seq).event, DatasetGenerated) for seq in plan.events):
        runtime.workspace.dataset.unlink(missing_ok=True)


def _content(event: AnyEvent) -> Digest | None:
    """Names the content that a change brought, or took away."""
    return (event.after or event.before) if isinstance(event, ChangeObserved) else None


def _same_content(reader: LogReader, record: Recorded) -> list[Recorded]:
    """Gives the signal that is to go, and after it every other change to or from the same content."""
    content = _content(record.event)
    if content is None:
        return [record]
    others = [
        other
        for other in reader.read(types=[ChangeObserved])
        if isinstance(other.event, ChangeObserved) and content in (other.event.before, other.event.after)
    ]
    return [record, *(other for other in others if other.seq != record.seq)]


def _check(runtime: Runtime, record: Recorded, reason: str) -> None:
    if not reason.strip():
        raise ConfigError("an erasure says on whose request it is made, and why: give --reason")
    erased = runtime.reader.erased(record.seq)
    if erased is not None:
        raise ConfigError(f"the payload of event {record.seq} was erased by event {erased} already")
    event = record.event
    if isinstance(event, ChangeObserved):
        tree = runtime.state.tree
        content = _content(event)
        files = read_tree(runtime.blobs, tree).files if tree else {}
        standing = [path for path, entry in files.items() if entry.blob == content]
        if standing:
            raise RollbackRefused(
                f"{standing[0]} still has the content that event {record.seq} brought: change or delete the file, "
                "let `instar run --once` see it, then erase"
            )
    elif isinstance(event, _DERIVED) or remains_of(event) == event:
        raise ConfigError(
            f"event {record.seq} ({type(event).__name__}) holds no text of its own: erase the signal that it rests on "
            f"(`instar why {record.seq}`)"
        )


def _take_derived(draft: _Draft, record: Recorded) -> None:
    """Erases what an event copied from the signals that go."""
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
        case DatasetGenerated(dataset=dataset) if _teaches(draft, dataset):
            draft.datasets.add(dataset)
            draft.add(record, record.event, dataset, record.event.logs, record.event.vectors)
        case CheckpointTrained(dataset=dataset, checkpoint=checkpoint, brought=None) if dataset in draft.datasets:
            draft.learned[checkpoint] = None
        case PayloadErased(target=target) if target in draft.erasures:
            # An earlier erasure of the same event keeps what was left of it then, and with it this text.
            draft.add(record, replace(record.event, remains=""))


def _embedded(draft: _Draft, event: SignalEmbedded) -> SignalEmbedded:
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
        vectors=blobs.put(vectors.tobytes()),
        texts=blobs.put(msgspec.json.encode([texts[row] for _, row in kept])) if texts is not None else None,
    )


def _reembedded(draft: _Draft, event: MemoryReembedded) -> MemoryReembedded:
    kept = [place for place, row in enumerate(event.rows) if tuple(row) not in draft.dropped]
    vectors = _rows(draft.runtime.blobs.get(event.vectors), event.dim)[kept]
    blob = draft.runtime.blobs.put(vectors.tobytes())
    return replace(event, rows=tuple(event.rows[place] for place in kept), vectors=blob)


def _rows(content: bytes, dim: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.frombuffer(content, dtype="<f4").reshape(-1, dim)  # (rows, dim) float32


def _teaches(draft: _Draft, dataset: Digest) -> bool:
    blobs = draft.runtime.blobs
    if not blobs.has(dataset):  # it went with an earlier erasure
        return False
    content = Dataset.parse(blobs.get(dataset))
    return any(not draft.signals.isdisjoint(row.events) for row in content.rows)


def _blobs(reader: LogReader, draft: _Draft) -> tuple[tuple[Digest, ...], tuple[Digest, ...]]:
    """Parts the blobs that go from those that an event which stays, or what remains of another, still needs."""
    needed = NamedBlobs(reader)
    for row in reader.rows():
        erasure = draft.erasures.get(row[0])
        if erasure is None:
            needed.take(row)
        elif row[1] not in {ChangeObserved.__name__, DatasetGenerated.__name__}:
            needed.take((*row[:10], erasure.remains, *row[11:]))
    parts = Parts(draft.runtime.blobs)
    # A tree may need the content of a change; it is the change that was asked for, so that goes all the same.
    plain = {one.digest for one in needed if one.kind == "blob"}
    trained = {digest for one in needed if one.kind == "checkpoint" for digest in parts.of("checkpoint", one.digest)}
    gone = tuple(digest for digest in draft.candidates if digest not in plain and digest not in trained)
    return gone, tuple(digest for digest in draft.candidates if digest not in gone)


def _check_fold(reader: LogReader, erasure: PayloadErased) -> None:
    record = reader.get(erasure.target)
    remains = decode_event(type(record.event).__name__, record.event.VERSION, erasure.remains.encode())
    before = reader.state_at(Seq(record.seq - 1))
    folded = evolve(before, remains, seq=record.seq, cause=record.cause, at_us=record.recorded_at_us)
    if folded != reader.state_at(record.seq):
        raise EffectFailedError(
            f"what would remain of event {record.seq} ({type(record.event).__name__}) folds to another state: nothing "
            "was erased. Please report it."
        )
