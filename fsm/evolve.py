"""The fold: state and event to state. Pure and total over a log that was written by it."""

from __future__ import annotations

from typing import Any, get_args

from msgspec.structs import replace

from . import events as e
from .errors import IllegalTransition
from .folds import FOLDS, Moment
from .machine import UNMOVED, next_state
from .state import AgentState
from .words import ORIGIN, Seq, State

_ANSWERS = frozenset(
    {
        e.DiffComputed,
        e.SignalEmbedded,
        e.RetrainFlagged,
        e.DatasetGenerated,
        e.TrainingProgressed,
        e.CheckpointTrained,
        e.MemoryReembedded,
        e.OutcomeRewarded,
        e.PlanChosen,
        e.MutationRejected,
        e.MutationAccepted,
        e.EffectFailed,
    }
)
"""Outcomes of effects: each must name, as its cause, the event that brought the machine into the state that owed it."""

_FINISHES = frozenset({e.RollbackFinished, e.MutationApplied})


def _nothing(_state: AgentState, _event: Any, _at: Moment) -> dict[str, Any]:
    return {}


_WAYS = {kind: (FOLDS.get(kind, _nothing), kind in UNMOVED) for kind in get_args(e.AnyEvent)}
"""What each type of event changes, and whether it leaves the machine where it is."""


def evolve(state: AgentState, event: e.AnyEvent, *, seq: Seq, cause: Seq | None, at_us: int) -> AgentState:
    """Gives the state after an event.

    Args:
        state: the state at position ``seq − 1``.
        event: the fact.
        seq: its position.
        cause: the event that it answers.
        at_us: its recorded time, microseconds since 1970 UTC.

    Raises:
        IllegalTransition: the machine does not accept the event here, or it answers a question that is no longer open.
    """
    kind, head = type(event), state.head
    if seq != head + 1:
        raise IllegalTransition(f"event {seq} does not follow {head}")
    fold, unmoved = _WAYS[kind]
    if unmoved and head != ORIGIN:
        changed = fold(state, event, Moment(seq, cause, at_us))
    else:
        _check_position(state, kind, cause)
        changed = fold(state, event, Moment(seq, cause, at_us))
        target = next_state(state, event, at_us)
        if target is not None:
            changed["machine"] = target
            changed["since"] = seq
            if target is State.IDLE:
                changed["cycle"] = None
    changed["head"] = seq
    return replace(state, **changed)


def _check_position(state: AgentState, kind: type, cause: Seq | None) -> None:
    if (state.head == ORIGIN) != (kind is e.WorkspaceInitialized):
        raise IllegalTransition("the first event of a log, and no other, is WorkspaceInitialized")
    if state.restoring:
        if kind not in _FINISHES or cause != state.restoring.seq:
            raise IllegalTransition(
                f"{kind.__name__} must wait: the restore begun by event {state.restoring.seq} is not finished. "
                f"Start the worker or run `instar run --once`; it rolls forward first."
            )
    elif kind in _FINISHES:
        raise IllegalTransition(f"{kind.__name__} finishes nothing: no restore was begun")
    elif kind in _ANSWERS and cause != state.since and not (kind is e.MemoryReembedded and cause is None):
        raise IllegalTransition(
            f"{kind.__name__} answers event {cause}, but the machine is in {state.machine} since {state.since}"
        )
