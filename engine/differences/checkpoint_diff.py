"""What differs between two checkpoints: tensor by tensor, and which trainings lie between."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from instar.fsm.errors import BlobCorrupt, BlobMissing
from instar.fsm.events import CheckpointTrained, GainOf, Interval, OutcomeRewarded
from instar.fsm.words import Digest, Seq
from instar.store.manifest import TensorEntry, TensorFile, read_manifest
from instar.store.ports import Blobs
from instar.store.reader import LogReader


class Training(Struct, frozen=True, kw_only=True):
    """One training; ``verdict`` is empty while it was not judged."""

    seq: Seq
    checkpoint: Digest
    base: Digest
    dataset: Digest
    gain: Interval
    gain_of: GainOf
    verdict: str = ""


class CheckpointDiff(Struct, frozen=True, kw_only=True):
    """Two checkpoints. Counts are of tensors; bytes are those of the tensors that were changed or added.

    ``lineage`` leads from the earlier checkpoint to the later one, both included; it is empty where neither comes from
    the other. ``note`` says why tensors could not be compared, if they could not.
    """

    before: Digest | None
    after: Digest | None
    tensors: int = 0
    changed: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    bytes_changed: int = 0
    bytes_all: int = 0
    lineage: tuple[Digest, ...] = ()
    trainings: tuple[Training, ...] = ()
    note: str = ""


def compare_checkpoints(
    reader: LogReader, blobs: Blobs, a: tuple[Seq, Digest | None], b: tuple[Seq, Digest | None]
) -> CheckpointDiff:
    """Compares the checkpoints that were active at two positions.

    Args:
        reader: the log.
        blobs: where the manifests lie; weights are not read.
        a: a position, and the checkpoint that was active there.
        b: another position, earlier or later, and its checkpoint.
    """
    (first, before), (last, after) = a, b
    low, high = min(first, last), max(first, last)
    every = _trainings(reader, high)
    between = tuple(one for one in every if one.seq > low)
    if before == after:
        return CheckpointDiff(before=before, after=after, trainings=between)
    line = _line(every, after, before) or _line(every, before, after)
    try:
        old, new = _tensors(blobs, before), _tensors(blobs, after)
    except (BlobMissing, BlobCorrupt) as error:
        return CheckpointDiff(before=before, after=after, lineage=line, trainings=between, note=str(error))
    changed = [name for name in new if name in old and old[name].blob != new[name].blob]
    added = [name for name in new if name not in old]
    return CheckpointDiff(
        before=before,
        after=after,
        tensors=len(new),
        changed=tuple(changed),
        added=tuple(added),
        removed=tuple(name for name in old if name not in new),
        bytes_changed=sum(_size(new[name]) for name in (*changed, *added)),
        bytes_all=sum(map(_size, new.values())),
        lineage=line,
        trainings=between,
    )


def _trainings(reader: LogReader, to: Seq) -> list[Training]:
    """Reads every training up to a position, each with its verdict if that lies there too."""
    every: list[Training] = []
    judged = True
    for record in reader.read(1, to, [CheckpointTrained, OutcomeRewarded]):
        match record.event:
            case CheckpointTrained() as event:
                every.append(
                    Training(
                        seq=record.seq,
                        checkpoint=event.checkpoint,
                        base=event.base,
                        dataset=event.dataset,
                        gain=event.gain,
                        gain_of=event.gain_of,
                    )
                )
                judged = False
            case OutcomeRewarded(subject="checkpoint", verdict=verdict) if not judged:
                every[-1] = replace(every[-1], verdict=verdict)
                judged = True
    return every


def _line(trainings: list[Training], newer: Digest | None, older: Digest | None) -> tuple[Digest, ...]:
    """Walks from a checkpoint back to its bases; gives the way from ``older`` to ``newer``, or nothing."""
    if newer is None or older is None:
        return ()
    base_of = {one.checkpoint: one.base for one in trainings}
    way = [newer]
    while way[-1] != older:
        base = base_of.get(way[-1])
        if base is None or base in way:
            return ()
        way.append(base)
    return tuple(reversed(way))


def _tensors(blobs: Blobs, checkpoint: Digest | None) -> dict[str, TensorEntry]:
    if checkpoint is None:
        return {}
    return {
        tensor.name: tensor
        for file in read_manifest(blobs, checkpoint).files
        if isinstance(file, TensorFile)
        for tensor in file.tensors
    }


def _size(tensor: TensorEntry) -> int:
    return tensor.end - tensor.begin
