"""The log as people read it: rows, newest first, and one event with what led to it and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from instar.engine.describe import describe
from instar.engine.visible import visible
from instar.fsm.codec import TYPES
from instar.fsm.errors import InstarError
from instar.store.clock import iso
from instar.store.reader import COLUMNS, LogReader, Row, decode_row

GROUPS: dict[str, tuple[str, ...]] = {
    "signal": ("ChangeObserved", "FeedbackReceived", "TaskQueued", "InputSkipped"),
    "cycle": ("CycleStarted", "DiffComputed", "SignalEmbedded", "PlanChosen"),
    "training": (
        "RetrainFlagged",
        "DatasetGenerated",
        "TrainingProgressed",
        "CheckpointTrained",
        "MemoryReembedded",
        "OutcomeRewarded",
    ),
    "change": (
        "MutationAccepted",
        "MutationRejected",
        "MutationApplied",
        "ProbationEnded",
        "RollbackStarted",
        "RollbackFinished",
    ),
    "workspace": (
        "WorkspaceInitialized",
        "ModelAdopted",
        "PolicyChanged",
        "TreeCaptured",
        "SnapshotTaken",
        "PayloadErased",
        "BlobsCollected",
    ),
    "failure": ("EffectFailed",),
}
"""Event types by what they are about; a filter takes the name of a group or of a type."""

GROUP_OF = {kind: group for group, kinds in GROUPS.items() for kind in kinds}
LIMIT_MAX = 200
_NAMES = tuple(COLUMNS.split(", "))
_PAYLOAD = _NAMES.index("payload")
_WINDOW_MAX = 1 << 14
_CHAIN_MAX = 24
_ANSWERS_MAX = 12
_ANSWERS_WITHIN = 512


class Entry(Struct, frozen=True, kw_only=True):
    """One row of the timeline."""

    seq: int
    type: str
    group: str
    summary: str
    at_us: int
    time: str
    cycle: int
    cause: int | None
    actor: str
    state_before: str
    state_after: str


class Detail(Struct, frozen=True, kw_only=True):
    """One event, whole. ``chain`` leads from the first cause to this event; ``answers`` name it as their cause."""

    entry: Entry
    version: int
    key: str | None
    payload: str | None
    """Indented JSON; None if it was erased."""
    payload_hash: str
    prev_hash: str
    hash: str
    state_digest: str | None
    chain: tuple[Entry, ...]
    answers: tuple[Entry, ...]
    diff: str | None


def payload_of(row: Row) -> str | None:
    """Gives the payload's JSON; None if it was erased."""
    payload: str | None = row[_PAYLOAD]
    return payload


def entry_of(row: Row) -> Entry:
    """Reads a row for the timeline; one that cannot be decoded says so in its summary."""
    facts: dict[str, Any] = dict(zip(_NAMES, row, strict=True))
    return Entry(
        seq=facts["seq"],
        type=facts["type"],
        group=GROUP_OF.get(facts["type"], "workspace"),
        summary=_summary(row),
        at_us=facts["recorded_at_us"],
        time=iso(facts["recorded_at_us"]),
        cycle=facts["cycle"],
        cause=facts["cause"],
        actor=facts["actor"],
        state_before=facts["state_before"],
        state_after=facts["state_after"],
    )


def _summary(row: Row) -> str:
    if payload_of(row) is None:
        return "the payload was erased"
    try:
        return visible(describe(decode_row(row).event)[:400])
    except InstarError as error:
        return visible(str(error)[:400])


def types_of(choice: str) -> tuple[str, ...] | None:
    """Turns a filter into event types: all for the empty one, None for one that is unknown."""
    if not choice:
        return ()
    if choice in GROUPS:
        return GROUPS[choice]
    return (choice,) if choice in TYPES else None


def page_before(reader: LogReader, before: int, limit: int, types: Sequence[str] = ()) -> list[Entry]:
    """Gives the last ``limit`` rows before a position, newest first.

    The log has no index on types: windows that grow are read backwards until enough rows are found.
    """
    found: list[Row] = []
    upper, width = before - 1, max(limit, 64)
    while upper >= 1 and len(found) < limit:
        lower = max(1, upper - width + 1)
        found.extend(reversed(list(reader.rows(lower, upper, types))))
        upper, width = lower - 1, min(width * 4, _WINDOW_MAX)
    return [entry_of(row) for row in found[:limit]]


def rows_after(reader: LogReader, after: int, limit: int, types: Sequence[str] = ()) -> list[Entry]:
    """Gives the rows after a position, newest first, and of those the newest ``limit`` at most."""
    rows = list(reader.rows(max(after + 1, reader.head() - _WINDOW_MAX), None, types))
    return [entry_of(row) for row in reversed(rows[-limit:])]


def detail_of(reader: LogReader, seq: int) -> Detail | None:
    """Gives one event with its chain of causes; None if there is no such position."""
    row = _row_at(reader, seq)
    if row is None:
        return None
    facts: dict[str, Any] = dict(zip(_NAMES, row, strict=True))
    payload = payload_of(row)
    answers = [other for other in reader.rows(seq + 1, seq + _ANSWERS_WITHIN) if other[_NAMES.index("cause")] == seq]
    return Detail(
        entry=entry_of(row),
        version=facts["version"],
        key=facts["key"],
        payload=None if payload is None else msgspec.json.format(payload, indent=2),
        payload_hash=facts["payload_hash"],
        prev_hash=facts["prev_hash"],
        hash=facts["hash"],
        state_digest=facts["state_digest"],
        chain=_chain(reader, row),
        answers=tuple(entry_of(answer) for answer in answers[:_ANSWERS_MAX]),
        diff=_diff(reader, row),
    )


def _row_at(reader: LogReader, seq: int) -> Row | None:
    return next(iter(reader.rows(seq, seq)), None)


def _chain(reader: LogReader, row: Row) -> tuple[Entry, ...]:
    """Follows causes back; each lies before its answer, so this ends."""
    chain = [row]
    place = _NAMES.index("cause")
    while len(chain) < _CHAIN_MAX and (cause := chain[-1][place]) is not None:
        before = _row_at(reader, cause)
        if before is None or before[0] >= chain[-1][0]:
            break
        chain.append(before)
    return tuple(entry_of(link) for link in reversed(chain))


def _diff(reader: LogReader, row: Row) -> str | None:
    """Gives the unified diff of an observed change, if its two versions are in the store."""
    from instar.engine.diff_engine import diff_change
    from instar.fsm.events import ChangeObserved
    from instar.store.blobs import BlobStore

    if row[_NAMES.index("type")] != ChangeObserved.__name__ or payload_of(row) is None:
        return None
    try:
        record = decode_row(row)
        if not isinstance(record.event, ChangeObserved):
            return None
        blobs = BlobStore(reader.path.with_name("blobs"), reader)
        before, after = (blobs.get(one) if one else None for one in (record.event.before, record.event.after))
        return diff_change(record.seq, record.event.path, before, after)[1]
    except InstarError as error:
        return str(error)
