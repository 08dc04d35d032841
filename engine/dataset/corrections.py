"""Verified corrections of code: a mutation that passed its gate, or a rollback that undid a monitored change.

Every other edit may be right or wrong; nobody has checked it, so it teaches nothing.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable

from instar.engine.diff_engine import PYTHON_SUFFIXES
from instar.fsm.errors import BlobCorrupt, BlobMissing
from instar.fsm.events import ChangeObserved, MutationAccepted, MutationApplied, RollbackFinished
from instar.fsm.record import Recorded
from instar.fsm.words import Digest, Seq
from instar.store.ports import Blobs

from .changed_units import Changed, ChangedUnits
from .heard import folded
from .lessons import IDENTICAL, Lesson
from .rows import Verified

_log = logging.getLogger("instar.corrections")


def corrections(
    records: Iterable[Recorded], compared: ChangedUnits, blobs: Blobs, left_out: Counter[str]
) -> list[Lesson]:
    """Pairs the old source of each changed unit with its corrected one; the group is the file.

    Of a correction that was undone later only the undoing stays: the last verdict counts.

    Args:
        records: the log's events that are no feedback, in order.
        compared: the versions that were compared before.
        blobs: where the versions lie.
        left_out: counts what teaches nothing, by reason.
    """
    found: dict[tuple[str, str, str, str], Lesson] = {}
    verified: dict[Seq, Verified] = {}
    gated: set[Seq] = set()
    for record in records:
        match record.event:
            case MutationAccepted(task=task, gate=gate):
                if gate:  # a mutation that no gate tried is an edit like any other
                    gated.add(task)
                    verified[record.seq] = "test"
            case MutationApplied(task=task):
                if task in gated:
                    verified[record.seq] = "test"
            case RollbackFinished():
                verified[record.seq] = "correction"
            case ChangeObserved() as change:
                verified_by = verified.get(record.cause) if record.cause is not None else None
                if verified_by is None:
                    left_out["unverified change"] += 1
                elif verified_by == "correction" and not change.monitored:
                    left_out["restored, but not monitored"] += 1
                else:
                    units = _changed(change, compared, blobs, left_out)
                    _learn(found, record.seq, change.path, units, verified_by, left_out)
            case _:
                pass
    return list(found.values())


def _learn(
    found: dict[tuple[str, str, str, str], Lesson],
    seq: Seq,
    path: str,
    units: Iterable[Changed],
    verified_by: Verified,
    left_out: Counter[str],
) -> None:
    for name, old, new, asked, right in units:
        key, back = (path, name, old, new), (path, name, new, old)
        if found.pop(back, None) is not None:
            left_out["undone later"] += 1
        if folded(asked) == folded(right):
            left_out[IDENTICAL] += 1
            continue
        found.pop(key, None)
        found[key] = Lesson(
            key=folded(asked),
            input=asked,
            output=right,
            source="code_diff",
            events=(seq,),
            group=path,
            failed=True,
            verified_by=verified_by,
            kind="code_diff",
        )


def _changed(
    change: ChangeObserved, compared: ChangedUnits, blobs: Blobs, left_out: Counter[str]
) -> tuple[Changed, ...]:
    """Gives the units that a change changed; none, and the reason is counted, where there is nothing to compare."""
    if not change.path.endswith(PYTHON_SUFFIXES):
        left_out["no Python"] += 1
        return ()
    before, after = _version(change.before, blobs, left_out), _version(change.after, blobs, left_out)
    units = compared.of(before, after) if before and after else None
    if units is None:
        left_out["added, deleted or unreadable file"] += 1
    return units or ()


def _version(digest: Digest | None, blobs: Blobs, left_out: Counter[str]) -> tuple[Digest, bytes] | None:
    """Reads a version, also one that was compared before: what is lost since teaches nothing."""
    if digest is None:
        return None
    try:
        return digest, blobs.get(digest)
    except (BlobMissing, BlobCorrupt) as error:
        _log.warning("a version of a changed file is lost, so it teaches nothing: %s", error)
        left_out["version lost"] += 1
        return None
