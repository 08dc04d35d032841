"""What a row of memory copies from earlier events: whoever embeds a signal fills it in, and replay compares it."""

from __future__ import annotations

from typing import Final, Literal

from .drift import with_shift
from .events import (
    AnyEvent,
    ChangeObserved,
    CheckpointTrained,
    EffectFailed,
    FeedbackReceived,
    OutcomeRewarded,
    ProbationEnded,
)
from .values import DiffItem, EmbeddedItem
from .words import Seq

EXCERPT_CHARS: Final = 240
UNITS_MAX: Final = 64


def excerpt(text: str) -> str:
    """Gives the beginning of a text, on one line."""
    return " ".join(text.split())[:EXCERPT_CHARS]


def signal_row(
    seq: Seq, cause: Seq | None, event: AnyEvent, diff: DiffItem, text: str, judged: AnyEvent | None
) -> EmbeddedItem:
    """Gives the row of one signal, without its vector.

    Args:
        seq: where the signal stands.
        cause: what it answers; a change that we made ourselves has one.
        event: the signal.
        diff: what it changed.
        text: what is embedded; of a feedback the row quotes what was asked.
        judged: the event that a verdict is on.
    """
    match event:
        case ChangeObserved():
            return EmbeddedItem(
                seq=seq,
                kind=diff.kind,
                unit=event.path,
                text=excerpt(text),
                row=None,
                monitored=event.monitored and cause is None,
                meaning_changed=diff.meaning_changed,
            )
        case FeedbackReceived():
            return EmbeddedItem(
                seq=seq,
                kind="failure" if event.outcome != "pass" else "feedback",
                unit=event.task_type,
                text=excerpt(event.input),
                row=None,
                confidence=event.confidence,
                outcome=event.outcome,
                reward=event.reward,
                task_type=event.task_type,
            )
        case EffectFailed():
            return EmbeddedItem(
                seq=seq,
                kind="failure",
                unit=diff.subject,
                text=excerpt(text),
                row=None,
                outcome="fail",
                task_type=failed_task(event),
            )
        case OutcomeRewarded() | ProbationEnded():
            return EmbeddedItem(
                seq=seq,
                kind=diff.kind,
                unit=diff.subject,
                text=excerpt(text),
                row=None,
                replaceable=False,
                lineage=judged.lineage if isinstance(judged, CheckpointTrained) else None,
            )
        case _:
            raise AssertionError(f"{type(event).__name__} is no signal")


def unit_row(
    whole: EmbeddedItem, name: str, text: str, drift: float | None = None, cosine: float | None = None
) -> EmbeddedItem:
    """Gives the row of one unit of a changed file, beside the row of the whole change.

    Args:
        whole: the row of the change.
        name: of the unit.
        text: its source.
        drift: how far its syntax drifted, if that was measured.
        cosine: of its vector against its last one, if there was one.
    """
    return EmbeddedItem(
        seq=whole.seq,
        kind="unit",
        unit=f"{whole.unit}::{name}",
        text=excerpt(text),
        row=None,
        similarity=cosine,
        drift=None if drift is None else with_shift(drift, cosine),
        monitored=whole.monitored,
        meaning_changed=whole.meaning_changed,
    )


def units_of(diff: DiffItem) -> tuple[str, ...]:
    """Names the units of a change that get a row, as far as the new version has them."""
    return (*diff.units_changed, *diff.units_added)[:UNITS_MAX]


def failed_task(event: EffectFailed) -> str:
    """Gives the task type under which a failure of the engine itself is rewarded."""
    return f"engine:{event.effect}"


def outcome_diff(seq: Seq, event: FeedbackReceived, alike: float) -> DiffItem:
    """Gives the difference that an outcome stands for.

    Args:
        seq: where the outcome stands.
        event: the outcome.
        alike: how alike output and reference are, in 0..1; without a reference the outcome alone says it.
    """
    kind: Literal["output_diff", "failure"] = "output_diff"
    if event.reference is None:
        kind, alike = ("output_diff", 1.0) if event.outcome == "pass" else ("failure", 0.0)
    return DiffItem(
        seq=seq, kind=kind, subject=event.task_type, similarity=round(alike, 6), meaning_changed=alike < 1.0
    )


def failure_diff(seq: Seq, event: EffectFailed) -> DiffItem:
    """Gives the difference that a failure of the engine stands for."""
    return DiffItem(seq=seq, kind="failure", subject=failed_task(event), similarity=0.0, meaning_changed=False)


def verdict_diff(seq: Seq, event: OutcomeRewarded | ProbationEnded) -> DiffItem:
    """Gives the difference that a verdict stands for."""
    kind: Literal["retrain", "mutation"] = "retrain" if event.subject == "checkpoint" else "mutation"
    return DiffItem(seq=seq, kind=kind, subject=kind, similarity=1.0, meaning_changed=False)
