"""Every training run of the log, with its verdict."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import ClassVar

from msgspec import Struct
from msgspec.structs import replace

from instar.fsm.events import CheckpointTrained, GainOf, Interval, Lineage, OutcomeRewarded, Retrieval
from instar.fsm.record import Recorded
from instar.store.clock import iso

_KEPT = 200


class Training(Struct, frozen=True, kw_only=True):
    """One CheckpointTrained, and the OutcomeRewarded of the same cycle once it is there."""

    seq: int
    cycle: int
    at_us: int
    time: str
    checkpoint: str
    base: str
    epochs: int
    steps: int
    loss: tuple[float, ...]
    before: Retrieval
    after: Retrieval
    gain: Interval
    gain_of: GainOf
    lineage: Lineage
    duration_s: float
    verdict: str | None = None
    reason: str = ""
    judged: int | None = None
    """The OutcomeRewarded."""


class TrainingBoard:
    """A projection of the log; keeps the last 200 runs."""

    TYPES: ClassVar[tuple[str, ...]] = (CheckpointTrained.__name__, OutcomeRewarded.__name__)

    def __init__(self) -> None:
        self._by_cycle: OrderedDict[int, Training] = OrderedDict()
        self._lock = threading.Lock()
        self.count = 0

    def add(self, record: Recorded) -> None:
        """Counts one event in; other types do nothing."""
        match record.event:
            case CheckpointTrained() as event:
                with self._lock:
                    self._by_cycle[record.cycle] = _training(record, event)
                    self.count += 1
                    if len(self._by_cycle) > _KEPT:
                        self._by_cycle.popitem(last=False)
            case OutcomeRewarded(subject="checkpoint") as event:
                with self._lock:
                    known = self._by_cycle.get(record.cycle)
                    if known is not None:
                        judged = replace(known, verdict=event.verdict, reason=event.reason, judged=record.seq)
                        self._by_cycle[record.cycle] = judged
            case _:
                pass

    def runs(self, limit: int = _KEPT) -> list[Training]:
        """Gives the last runs, newest first."""
        with self._lock:
            return list(reversed(self._by_cycle.values()))[:limit]


def _training(record: Recorded, event: CheckpointTrained) -> Training:
    return Training(
        seq=record.seq,
        cycle=record.cycle,
        at_us=record.recorded_at_us,
        time=iso(record.recorded_at_us),
        checkpoint=event.checkpoint,
        base=event.base,
        epochs=event.epochs,
        steps=event.steps,
        loss=event.loss,
        before=event.before,
        after=event.after,
        gain=event.gain,
        gain_of=event.gain_of,
        lineage=event.lineage,
        duration_s=event.duration_s,
    )
