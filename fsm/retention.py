"""Which events stay whole when blobs are collected: a decision on recorded facts alone.

An event that is kept keeps every blob that it names, and all that a return to it needs. The events themselves always
stay.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from .words import Seq

SAFETY = "before-rollback-"
"""How the snapshots begin that a rollback takes of what it is about to change."""
_DAY_US = 86_400_000_000


class Retention(Struct, frozen=True, forbid_unknown_fields=True):
    """What a collection keeps, beside what stands now: the young, and of what is older the points that count.

    Named snapshots and the first event are always kept.
    """

    days: float = 30.0
    """Everything younger is kept."""
    promotions_max: int = 20
    """The latest promotions, each with its checkpoint and memory."""
    safety_max: int = 10
    """The latest snapshots that rollbacks took of what they changed."""


class Point(Struct, frozen=True, gc=False):
    """An older event that may be worth keeping; ``name`` is that of a snapshot, None of a promotion."""

    seq: Seq
    name: str | None


def cutoff_us(retention: Retention, now_us: int) -> int:
    """Gives the recorded time before which an event is old; a negative number of days counts as none."""
    return now_us - int(max(0.0, retention.days) * _DAY_US)


def kept_points(retention: Retention, kept_from: Seq, found: Iterable[Point]) -> tuple[Seq, ...]:
    """Chooses the old events that are kept, in the order of the log.

    A name that was given again stands for its last point alone, as it does for whoever goes back to it.

    Args:
        retention: what to keep.
        kept_from: the first event that is young; it and all after it are kept anyway.
        found: every snapshot and promotion of the log, in its order.
    """
    named: dict[str, Seq] = {}
    safety: list[Seq] = []
    promotions: list[Seq] = []
    for point in found:
        if point.name is None:
            promotions.append(point.seq)
        elif point.name.startswith(SAFETY):
            safety.append(point.seq)
        else:
            named[point.name] = point.seq
    kept = {Seq(1), *named.values(), *_last(promotions, retention.promotions_max), *_last(safety, retention.safety_max)}
    return tuple(sorted(seq for seq in kept if seq < kept_from))


def _last(found: list[Seq], count: int) -> list[Seq]:
    return found[-count:] if count > 0 else []
