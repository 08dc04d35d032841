"""What of a log can change a data set; a worker reads on where its last one ended.

The log is never changed, so what was read of it holds, but for a payload that was erased since.
"""

from __future__ import annotations

from typing import Final

from instar.fsm.events import (
    AnyEvent,
    ChangeObserved,
    CheckpointTrained,
    DatasetGenerated,
    FeedbackReceived,
    MutationAccepted,
    MutationApplied,
    RollbackFinished,
    SignalEmbedded,
)
from instar.fsm.policy import Policy
from instar.fsm.record import Recorded
from instar.fsm.words import ORIGIN, Digest, Seq
from instar.store.reader import LogReader

from .changed_units import ChangedUnits
from .heard import STRUCT_CHARS, Heard

_KEPT: Final = (
    *(ChangeObserved, MutationAccepted, MutationApplied, RollbackFinished),
    *(DatasetGenerated, CheckpointTrained),
)
TEACHING: Final = (FeedbackReceived, SignalEmbedded, *_KEPT)
"""Events of other types change nothing in a data set."""
CHARS_MAX = 32_000_000
"""Of what a worker keeps between two data sets; a log that told more is read anew."""


class Past:
    """The events of a log up to some position.

    Args:
        policy: what a low reward and a low confidence are.
        erased: the last erasure of the log when this was begun.
    """

    def __init__(self, policy: Policy, erased: Seq = ORIGIN) -> None:
        self.erased = erased
        self.heard = Heard(policy)
        self.kept: list[Recorded] = []
        """All that is no feedback, in order."""
        self.compared = ChangedUnits()
        """The versions of files among it that were compared."""
        self.seq: Seq = Seq(0)
        self.hash: Digest | None = None
        """The last event of it."""
        self._chars = 0

    @property
    def chars(self) -> int:
        """About what it takes."""
        return self._chars + self.heard.chars + self.compared.chars

    def take(self, record: Recorded) -> None:
        """Takes the next event."""
        event: AnyEvent = record.event
        self.heard.take(record)
        if isinstance(event, _KEPT):
            self.kept.append(record)
            self._chars += STRUCT_CHARS
        self.seq, self.hash = record.seq, record.hash


class PastShelf:
    """Holds the past that was read last."""

    def __init__(self) -> None:
        self._past: Past | None = None
        self._policy: Policy | None = None

    def up_to(self, to: Seq, reader: LogReader, policy: Policy) -> Past:
        """Gives the past up to a position, reading no more than what is new.

        Args:
            to: the last event of it.
            reader: the log.
            policy: what a low reward and a low confidence are.
        """
        past, self._past = self._past, None  # an error half-way leaves nothing half read
        too_large = past is not None and past.chars > CHARS_MAX
        erased = reader.last_erasure()
        if past is None or too_large or self._policy != policy or past.seq > to or not _holds(past, reader, erased):
            past = Past(policy, erased)
        for record in reader.read(past.seq + 1, to, TEACHING):
            past.take(record)
        if past.chars <= CHARS_MAX:
            self._past, self._policy = past, policy
        return past


def _holds(past: Past, reader: LogReader, erased: Seq) -> bool:
    """Says whether the log still has what was read, and has erased nothing since."""
    there = [record.hash for record in reader.at([past.seq])]
    return past.erased == erased and (not past.seq or there == [past.hash])
