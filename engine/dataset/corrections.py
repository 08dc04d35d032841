"""Verified corrections of code: a mutation that passed its gate, or a rollback that undid a monitored change.

Every other edit may be right or wrong; nobody has checked it, so it teaches nothing.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable

from instar.engine.diff_engine import PYTHON_SUFFIXES
from instar.engine.differences.units import Unit, delta, units
from instar.fsm.errors import BlobCorrupt, BlobMissing
from instar.fsm.events import ChangeObserved, MutationAccepted, MutationApplied, RollbackFinished
from instar.fsm.record import Recorded
from instar.fsm.words import Digest, Seq
from instar.store.ports import Blobs

from .heard import clean, folded
from .lessons import IDENTICAL, Lesson
from .rows import Verified

_log = logging.getLogger("instar.corrections")


def corrections(records: Iterable[Recorded], blobs: Blobs, left_out: Counter[str]) -> list[Lesson]:
    """Pairs the old source of each changed unit with its corrected one; the group is the file.

    Of a correction that was undone later only the undoing stays: the last verdict counts.
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
                    _learn(found, record.seq, change, verified_by, blobs, left_out)
            case _:
                pass
    return list(found.values())


def _learn(
    found: dict[tuple[str, str, str, str], Lesson],
    seq: Seq,
    change: ChangeObserved,
    verified_by: Verified,
    blobs: Blobs,
    left_out: Counter[str],
) -> None:
    if not change.path.endswith(PYTHON_SUFFIXES):
        left_out["no Python"] += 1
        return
    before, after = _units(change.before, blobs, left_out), _units(change.after, blobs, left_out)
    if not before or not after:
        left_out["added, deleted or unreadable file"] += 1
        return
    for name in delta(before, after).changed:
        old, new = before[name], after[name]
        if "nested" in (old.kind, new.kind):
            continue  # It is told with the function that holds it.
        key = (change.path, name, old.digest, new.digest)
        back = (change.path, name, new.digest, old.digest)
        if found.pop(back, None) is not None:
            left_out["undone later"] += 1
        asked, right = clean(old.source), clean(new.source)
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
            group=change.path,
            failed=True,
            verified_by=verified_by,
            kind="code_diff",
        )


def _units(digest: Digest | None, blobs: Blobs, left_out: Counter[str]) -> dict[str, Unit] | None:
    """Reads the units of a version, or gives None if there is none, it is lost, or it is no Python."""
    if digest is None:
        return None
    try:
        read = units(blobs.get(digest).decode("utf-8-sig"))
    except (BlobMissing, BlobCorrupt) as error:
        _log.warning("a version of a changed file is lost, so it teaches nothing: %s", error)
        left_out["version lost"] += 1
        return None
    except UnicodeDecodeError:
        return None
    return None if any(unit.kind == "text" for unit in read.values()) else read
