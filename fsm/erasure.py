"""What is left of an event whose payload is erased: the same fact without its free text, folding to the same state."""

from __future__ import annotations

from collections.abc import Collection

from msgspec.structs import replace

from .events import (
    AnyEvent,
    DiffComputed,
    EffectFailed,
    FeedbackReceived,
    InputSkipped,
    MutationRejected,
    OutcomeRewarded,
    SignalEmbedded,
    TaskQueued,
)
from .rewards import TAUGHT
from .values import DiffItem, EmbeddedItem
from .words import Seq

ERASED = "erased"
"""Stands where an event must say something and nothing may be told any more."""
AGENT = "agent"
"""The source of what an agent says of its own work."""
TRIGGER_FILE = "trigger_file:"
"""How the source of a task begins that another program dropped; what follows are that program's words."""
UNTRIED = "the budget of "
"""How the reason begins why a patch was not even tried, which holds nobody's words and is decided again by a replay."""


def remains_of(event: AnyEvent, signals: Collection[Seq] = ()) -> AnyEvent:
    """Gives an event without its free text; the policies read the same facts of it.

    Args:
        event: the event that is to be erased.
        signals: for what was derived from signals, the signals whose text goes; the others stay.
            The rows of vectors and texts are the caller's: they lie in blobs.
    """
    match event:
        case FeedbackReceived(reference=reference):
            kept = None if reference is None else ""
            source = _told_by(event.source)
            return replace(event, input="", output="", reference=kept, group=None, log=None, source=source)
        case TaskQueued(source=source):
            # Whether a waiting patch may be tried without a sandbox is asked of its source: that stays.
            dropped = TRIGGER_FILE + ERASED if source.startswith(TRIGGER_FILE) else source
            return replace(event, note="", command=(), source=dropped)
        case MutationRejected(reason=reason) if not reason.startswith(UNTRIED):
            return replace(event, reason=ERASED)
        case OutcomeRewarded(subject="mutation", verdict="rejected", reason=reason) if not reason.startswith(UNTRIED):
            return replace(event, reason=ERASED)
        case InputSkipped():
            return replace(event, subject=ERASED, excerpt="")
        case EffectFailed():
            return replace(event, reason=ERASED, detail="")
        case DiffComputed(items=items):
            return replace(event, items=tuple(_diff(item) if item.seq in signals else item for item in items))
        case SignalEmbedded(items=items):
            return replace(event, items=tuple(_row(item) if item.seq in signals else item for item in items))
        case _:
            return event


def _told_by(source: str) -> str:
    """Leaves of a source what the fold asks: whether it was a lesson. Somebody's name may stand in the rest."""
    return source if source == AGENT else TAUGHT + ERASED if source.startswith(TAUGHT) else ERASED


def _diff(item: DiffItem) -> DiffItem:
    return replace(item, text=None, because=())


def _row(item: EmbeddedItem) -> EmbeddedItem:
    return replace(item, text="", row=None, failure=ERASED)
