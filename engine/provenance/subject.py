"""What a user asks about: an event, or a checkpoint, mutation, row of memory or row of a data set, found in the log."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec
from msgspec import Struct

from instar.engine.references import FORMS, number_of, resolve
from instar.fsm.errors import BlobCorrupt, BlobMissing, ConfigError
from instar.fsm.events import (
    ChangeObserved,
    CheckpointTrained,
    CycleStarted,
    DatasetGenerated,
    ModelAdopted,
    MutationAccepted,
    MutationApplied,
    MutationRejected,
    OutcomeRewarded,
    ProbationEnded,
    SignalEmbedded,
    TaskQueued,
    WorkspaceInitialized,
)
from instar.fsm.record import Recorded
from instar.fsm.words import Digest, Seq
from instar.store.blobs import BlobStore
from instar.store.reader import LogReader

from .graph import TEACHING

ALL_FORMS = f"{FORMS}; or mutation:SEQ, memory:SEQ.ITEM, dataset:PREFIX or dataset:PREFIX#N"
_SHOWN = 5
_VERDICTS = (MutationAccepted, MutationRejected, MutationApplied)


class Subject(Struct, frozen=True, kw_only=True):
    """What is asked about. ``seq`` is the event that it is, or that made it, or in which it lies.

    ``starts`` are the events on which what came of it rests: more than one where the same data set was generated again,
    the task for a mutation. ``item`` and ``row`` (from 1) name a row of memory or of a data set in it.
    """

    reference: str
    kind: Literal["event", "checkpoint", "mutation", "memory", "dataset", "row"]
    seq: Seq
    starts: tuple[Seq, ...]
    about: str
    digest: Digest | None = None
    verdict: Seq | None = None
    """For a checkpoint the event that judged it."""
    item: int | None = None
    row: int | None = None
    train: bool = True
    """For a row of a data set: it was there to learn from, not to judge by."""


def find_subject(reader: LogReader, reference: str | int) -> Subject:
    """Finds what a reference names.

    Args:
        reader: the log.
        reference: any reference to an event (``engine.references``); or ``checkpoint:PREFIX`` (the event that made it,
            promoted or not), ``mutation:SEQ`` (any event of that mutation), ``memory:SEQ.ITEM`` (item ITEM of the
            SignalEmbedded at SEQ), ``dataset:PREFIX``, ``dataset:PREFIX#N`` (its row N, from 1).

    Raises:
        ConfigError: it names nothing in this log, or more than one thing; the message says what is known.
    """
    text = str(reference).strip()
    kind, _, rest = text.partition(":")
    match kind:
        case "checkpoint":
            return _checkpoint(reader, text, rest)
        case "mutation":
            return _mutation(reader, text, rest)
        case "memory":
            return _memory(reader, text, rest)
        case "dataset":
            return _dataset(reader, text, rest)
        case _:
            return _event(reader, text)


def _event(reader: LogReader, text: str) -> Subject:
    try:
        seq = resolve(reader, text)
    except ConfigError as error:
        if FORMS in str(error):
            raise ConfigError(f"{text!r} is no reference. Give {ALL_FORMS}.") from None
        raise
    return Subject(reference=text, kind="event", seq=seq, starts=(seq,), about=f"event {seq}")


def _checkpoint(reader: LogReader, text: str, prefix: str) -> Subject:
    made: dict[str, list[Seq]] = {}
    verdicts: dict[Seq | None, tuple[Seq, str]] = {}
    for record in reader.read(types=[WorkspaceInitialized, ModelAdopted, CheckpointTrained, OutcomeRewarded]):
        match record.event:
            case (
                WorkspaceInitialized(checkpoint=str() as checkpoint)
                | ModelAdopted(checkpoint=checkpoint)
                | CheckpointTrained(checkpoint=checkpoint)
            ):
                made.setdefault(checkpoint, []).append(record.seq)
            case OutcomeRewarded(subject="checkpoint", verdict=verdict):
                verdicts[record.cause] = (record.seq, f", {verdict} by event {record.seq}")
            case _:
                pass
    digest = _one(made, prefix, "checkpoint")
    seqs = tuple(made[digest])
    judged, told = verdicts.get(seqs[0], (None, ""))
    return Subject(
        reference=text,
        kind="checkpoint",
        seq=seqs[0],
        starts=seqs,
        about=f"checkpoint {digest[:12]}{told}",
        verdict=judged,
        digest=Digest(digest),
    )


def _one(known: Mapping[str, object], prefix: str, what: str) -> str:
    """Gives the one name that begins with a prefix."""
    found = [name for name in known if prefix and name.startswith(prefix)]
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(f"{len(found)} {what}s begin with {prefix!r}: {_listed(name[:12] for name in found)}.")
    raise ConfigError(f"no {what} begins with {prefix!r}. Known: {_listed(name[:12] for name in known)}.")


def _listed(names: Iterable[object]) -> str:
    every = [str(name) for name in names]
    which = f" (the last {_SHOWN} of {len(every)})" if len(every) > _SHOWN else ""
    return ", ".join(every[-_SHOWN:]) + which if every else "none"


def _mutation(reader: LogReader, text: str, rest: str) -> Subject:
    task = _task_of(reader, reader.get(resolve(reader, rest))) if rest.isascii() and rest.isdigit() else None
    if task is None:
        tasks = [
            record.seq
            for record in reader.read(types=[TaskQueued])
            if isinstance(record.event, TaskQueued) and record.event.task == "mutate"
        ]
        raise ConfigError(f"{text!r} is no event of a mutation. Known mutations, by task: {_listed(tasks)}.")
    seq = task
    for record in reader.read(task, types=_VERDICTS):
        if isinstance(record.event, _VERDICTS) and record.event.task == task:
            seq = record.seq
    return Subject(reference=text, kind="mutation", seq=seq, starts=(task,), about=f"the mutation of task {task}")


def _task_of(reader: LogReader, record: Recorded) -> Seq | None:
    """Finds the task of the mutation that an event belongs to, if it belongs to one."""
    match record.event:
        case TaskQueued(task="mutate"):
            return record.seq
        case CycleStarted(entry="mutate", span=span):
            return span.first
        case MutationAccepted(task=task) | MutationRejected(task=task) | MutationApplied(task=task):
            return task
        case ProbationEnded(applied=applied):
            return _task_of(reader, reader.get(applied))
        case ChangeObserved() | OutcomeRewarded(subject="mutation") if record.cause is not None:
            judged = reader.get(record.cause)
            return _task_of(reader, judged) if isinstance(judged.event, _VERDICTS) else None
        case _:
            return None


def _memory(reader: LogReader, text: str, rest: str) -> Subject:
    match = re.fullmatch(r"([0-9]+)\.([0-9]+)", rest)
    if match is None:
        raise ConfigError(f"{text!r} is no row of memory: give memory:SEQ.ITEM, as `instar search` prints it.")
    seq, number = resolve(reader, match[1]), number_of(match[2])
    event = reader.get(seq).event
    if not isinstance(event, SignalEmbedded):
        embedded = [record.seq for record in reader.read(types=[SignalEmbedded])]
        raise ConfigError(
            f"event {seq} embedded nothing, it is a {type(event).__name__}. Rows of memory lie in: {_listed(embedded)}."
        )
    if number >= len(event.items):
        held = f"items 0 to {len(event.items) - 1}" if event.items else "no items"
        raise ConfigError(f"there is no row {text}: event {seq} has {held}")
    item = event.items[number]
    about = f"row {number} of what event {seq} embedded: {item.kind} {item.unit}"
    return Subject(reference=text, kind="memory", seq=seq, starts=(seq,), about=about, item=number)


def _dataset(reader: LogReader, text: str, rest: str) -> Subject:
    prefix, mark, number = rest.partition("#")
    made: dict[str, list[Seq]] = {}
    for record in reader.read(types=[DatasetGenerated]):
        if isinstance(record.event, DatasetGenerated):
            made.setdefault(record.event.dataset, []).append(record.seq)
    digest = Digest(_one(made, prefix, "data set"))
    seqs = tuple(made[digest])
    if not mark:
        about = f"data set {digest[:12]}"
        return Subject(reference=text, kind="dataset", seq=seqs[0], starts=seqs, about=about, digest=digest)
    lines = _lines(reader, digest)
    if not (number.isascii() and number.isdigit() and 1 <= number_of(number) <= len(lines)):
        raise ConfigError(f"there is no row {number!r} in data set {digest[:12]}: it has rows 1 to {len(lines)}")
    row = msgspec.json.decode(lines[number_of(number) - 1])
    about = f"row {number} of data set {digest[:12]}: {_line(row['input'])} → {_line(row['output'])}"
    return Subject(
        reference=text,
        kind="row",
        seq=seqs[0],
        starts=seqs,
        about=about,
        digest=digest,
        row=number_of(number),
        train=row["split"] in TEACHING,
    )


def _lines(reader: LogReader, digest: Digest) -> Sequence[bytes]:
    try:
        content = BlobStore(reader.path.with_name("blobs"), reader).get(digest)
    except (BlobMissing, BlobCorrupt) as error:
        raise ConfigError(f"the rows of data set {digest[:12]} cannot be read: {error}") from error
    return [line for line in content.split(b"\n") if line]


def _line(text: str) -> str:
    return " ".join(text.split())[:60]
