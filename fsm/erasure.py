"""What is left of an event whose payload is erased: the same fact without its free text, folding to the same state."""

from __future__ import annotations

from collections.abc import Collection

from msgspec.structs import replace

from .events import AnyEvent, DiffComputed, EffectFailed, FeedbackReceived, InputSkipped, SignalEmbedded, TaskQueued
from .values import DiffItem, EmbeddedItem
from .words import Seq

ERASED = "erased"
"""Stands where an event must say something and nothing may be told any more."""


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
            return replace(event, input="", output="", reference=kept, group=None, log=None)
        case TaskQueued():
            return replace(event, note="", command=())
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


def _diff(item: DiffItem) -> DiffItem:
    return replace(item, text=None)


def _row(item: EmbeddedItem) -> EmbeddedItem:
    return replace(item, text="", row=None, failure=ERASED)
