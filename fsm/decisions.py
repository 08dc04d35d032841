"""What is decided from recorded facts alone.

Whoever records a decision calls these functions, and so does whoever takes it again to see whether it stands: no rule
has a second copy. What takes more than the log's own facts (a diff, a vector, a training run) is an effect, not a
decision.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import islice
from typing import Any, Final

import msgspec
from msgspec import Struct

from .events import (
    AnyEvent,
    ChangeObserved,
    CycleStarted,
    EffectFailed,
    EmbeddedItem,
    FeedbackReceived,
    InputSkipped,
    MutationAccepted,
    MutationApplied,
    OutcomeRewarded,
    ProbationEnded,
    RollbackFinished,
    RollbackStarted,
    SnapshotTaken,
)
from .policies import is_remembered, may_mutate
from .retention import Point
from .state import AgentState, Waiting
from .values import PARTS, Displaced, Lineage, Part, Retrieval, Span, Trigger
from .words import Digest, Seq, digest_of

SIGNALS: Final = (ChangeObserved, FeedbackReceived, EffectFailed, OutcomeRewarded, ProbationEnded)
"""What a cycle of signals may take up; ``waits_for_cycle`` says which of them it does."""

_TRIGGER_NAMES: Final = {
    "code_mutation": "mutation_watcher",
    "semantic_drift": "semantic_drift",
    "explicit_task": "explicit_task",
    "feedback": "feedback_injection",
}


# ---- a cycle begins ------------------------------------------------------------------------------------------------


def waits_for_cycle(event: AnyEvent) -> bool:
    """Says whether a recorded event waits to be taken up by a cycle of signals."""
    match event:
        case ChangeObserved(seen=seen):
            return not seen
        case EffectFailed(final=final, cancelled=cancelled):
            return not final and not cancelled
        case OutcomeRewarded() as verdict:
            return is_remembered(verdict)
        case FeedbackReceived() | ProbationEnded():
            return True
        case _:
            return False


def take_up(run: Waiting, signals_max: int, signals: Iterable[Seq]) -> CycleStarted:
    """Takes up the run that has waited longest, or its first ``signals_max`` signals.

    Args:
        run: what waits first.
        signals_max: how many signals one cycle takes up.
        signals: the run's signals in order; looked at only if there are too many.
    """
    if run.count <= signals_max:
        return CycleStarted(entry=run.entry, span=Span(run.first, run.last), count=run.count)
    taken = list(islice(signals, signals_max))
    return CycleStarted(entry=run.entry, span=Span(run.first, taken[-1]), count=len(taken))


# ---- a retrain -----------------------------------------------------------------------------------------------------


def trigger_content(triggers: tuple[Trigger, ...], time: str) -> bytes:
    """Gives the bytes of the trigger file: a function of recorded facts, so that a retry writes the same.

    Args:
        triggers: what holds; the first gives the file its name for the trigger.
        time: when the event was recorded that asks for the flag, ISO 8601 in UTC.
    """
    content: dict[str, Any] = {
        "trigger": _TRIGGER_NAMES[triggers[0].policy],
        "time": f"{time[:19]}Z",
        "note": "; ".join(trigger.note for trigger in triggers),
        "triggers": [msgspec.to_builtins(trigger) for trigger in triggers],
    }
    return msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n"


def seed_of(asked: Digest) -> int:
    """Derives the seed of a training run from the hash of the event that asks for it: 31 bits."""
    return int(asked[:8], 16) & 0x7FFFFFFF


def windows_due(state: AgentState, items: Iterable[EmbeddedItem]) -> tuple[str, ...]:
    """Names the task types of which a cycle's outcomes fill another window, after a first one, in order.

    Outcomes of earlier cycles are counted by the standings, so each window is tested once.
    """
    size = state.policy.drift.window
    new = Counter(item.task_type for item in items if item.task_type is not None and item.outcome is not None)
    due = []
    for task_type, count in sorted(new.items()):
        standing = state.standings.get(task_type)
        before = standing.count if standing else 0
        if (before + count) // size > before // size and before + count >= 2 * size:
            due.append(task_type)
    return tuple(due)


def lineage_of(name: str, base: Digest, epochs: int, before: Retrieval, after: Retrieval) -> Lineage:
    """Says where a checkpoint came from: the agent's name and the base, and what it gained in confidence."""
    return Lineage(f"{name}_{base[:12]}", epochs, round(after.confidence - before.confidence, 6))


# ---- a mutation ----------------------------------------------------------------------------------------------------


def budget_refusal(state: AgentState) -> str | None:
    """Says why the mutation in progress is refused before it is tried; None while the hourly budget holds."""
    if may_mutate(state):
        return None
    return f"the budget of {state.policy.mutation.per_hour_max} mutations an hour is used up"


# ---- points in time ------------------------------------------------------------------------------------------------


def snapshot_of(state: AgentState, name: str, reason: str) -> SnapshotTaken | None:
    """Names the present point; None where nothing was captured yet."""
    if state.tree is None:
        return None
    return SnapshotTaken(name=name, tree=state.tree, checkpoint=state.checkpoint, reason=reason)


def tree_at(then: AgentState) -> Digest | None:
    """Gives the tree that a return to a state restores: of a restore in progress there, the one it leads to."""
    return then.restoring.tree if then.restoring else then.tree


class Return(Struct, frozen=True, kw_only=True):
    """What a rollback was asked to bring back.

    Attributes:
        parts: what of code, checkpoint and memory, in this order.
        paths: which files and folders, where it is not all of the code.
        undoes: the beginning of the rollback that is taken back.
        reason: why.
    """

    parts: tuple[Part, ...] = PARTS
    paths: tuple[str, ...] = ()
    undoes: Seq | None = None
    reason: str = "asked for"


def return_to(
    then: AgentState, now: AgentState, asked: Return, plan: Digest, *, grafted: Digest | None = None
) -> RollbackStarted | None:
    """Begins the return to an earlier state; None where nothing was captured.

    Args:
        then: the state to return to.
        now: the present state, which keeps what is not brought back.
        asked: what is brought back.
        plan: the blob of the file operations.
        grafted: the tree that the present one becomes, where only some paths are brought back.
    """
    tree = grafted if asked.paths else tree_at(then if "code" in asked.parts else now)
    if tree is None:
        return None
    weights = then if "checkpoint" in asked.parts else now
    return RollbackStarted(
        target=then.head,
        plan=plan,
        tree=tree,
        checkpoint=weights.checkpoint,
        memory=(then if "memory" in asked.parts else now).memory,
        reason=asked.reason,
        trained=weights.trained,
        trained_rows=weights.trained_rows,
        parts=asked.parts,
        paths=asked.paths,
        undoes=asked.undoes,
    )


def asked_of(event: RollbackStarted) -> Return:
    """Says what a recorded rollback was asked to bring back."""
    return Return(parts=event.parts, paths=event.paths, undoes=event.undoes, reason=event.reason)


def stated(event: RollbackStarted) -> AgentState:
    """Gives what a rollback says of a state, its target's or the one in front of it, as such a state."""
    return AgentState(
        head=event.target,
        tree=event.tree,
        checkpoint=event.checkpoint,
        memory=event.memory,
        trained=event.trained,
        trained_rows=event.trained_rows,
    )


def undo_of(begun: Seq, event: RollbackStarted) -> tuple[Seq, Return]:
    """Says where the undo of a rollback leads, and what it brings back: the same, as it stood just before.

    Args:
        begun: where the rollback began.
        event: its beginning.
    """
    return Seq(begun - 1), Return(parts=event.parts, paths=event.paths, undoes=begun, reason="undo")


def rollback_fault(state: AgentState, event: RollbackStarted) -> str | None:
    """Says what a rollback contradicts in itself or the state in front of it; None for one that can be recorded."""
    if not event.parts or event.parts != tuple(part for part in PARTS if part in event.parts):
        return f"it brings back {', '.join(event.parts) or 'nothing'}"
    if event.paths and event.parts != ("code",):
        return "only code has paths"
    if event.undoes is not None and event.target != event.undoes - 1:
        return f"the undo of event {event.undoes} leads in front of that event, not to event {event.target}"
    kept = return_to(stated(event), state, asked_of(event), event.plan, grafted=event.tree)
    return None if kept == event else "what it does not bring back must stay as it is"


def restored_among(signals: Iterable[tuple[Seq, Seq | None, AnyEvent]]) -> tuple[Seq, ...]:
    """Names the changes among a cycle's signals that a restore made: only these have a cause.

    Args:
        signals: of each the position, the cause and the event.
    """
    return tuple(seq for seq, cause, event in signals if isinstance(event, ChangeObserved) and cause is not None)


def finish_of(
    begun: Seq,
    event: RollbackStarted | MutationAccepted,
    displaced: tuple[Displaced, ...],
    probation: int | None,
    *,
    beside: bool = True,
) -> RollbackFinished | MutationApplied:
    """Says that the workspace holds what a restore led to.

    Args:
        begun: where it began.
        event: its beginning.
        displaced: the files that it found in its way.
        probation: over how many outcomes a mutation is watched.
        beside: whether those before it are watched on.
    """
    if isinstance(event, RollbackStarted):
        return RollbackFinished(started=begun, tree=event.tree, checkpoint=event.checkpoint, displaced=displaced)
    return MutationApplied(
        task=event.task, tree=event.tree_after, displaced=displaced, probation=probation, beside=beside
    )


def point_of(seq: Seq, event: AnyEvent) -> Point | None:
    """Gives the point that a snapshot or a promotion is, for a collection; None for any other event."""
    match event:
        case SnapshotTaken(name=name):
            return Point(seq, name)
        case OutcomeRewarded(verdict="promoted"):
            return Point(seq, None)
        case _:
            return None


# ---- idempotency keys ----------------------------------------------------------------------------------------------


def restored_key(begun: Seq) -> str:
    """Names the end of a restore by its beginning."""
    return f"restored:{begun}"


def shell_key(queued: Seq) -> str:
    """Names the outcome of a shell command by its task."""
    return f"shell:{queued}"


def progress_key(answers: Seq, step: int) -> str:
    """Names a step of the training that answers an event, so that it is recorded once."""
    return f"training:{answers}:{step}"


def progress_due(step: int, steps: int) -> bool:
    """Says whether a training records that it has come to a step: at each tenth of its steps.

    >>> [step for step in range(1, 26) if progress_due(step, 25)]
    [3, 5, 8, 10, 13, 15, 18, 20, 23, 25]
    >>> [step for step in range(1, 4) if progress_due(step, 3)]
    [1, 2, 3]
    """
    return step * 10 // steps > (step - 1) * 10 // steps


def skipped_key(item: InputSkipped) -> str:
    """Names what could not be read of a log file by file and reason, so that it is recorded once."""
    return f"skipped:{digest_of(f'{item.subject}:{item.reason}'.encode())[:32]}"
