"""Folds a run of signals in one step: what ``evolve`` gives one after the other.

A log is mostly changes and feedback, and all that these do is lengthen what waits. Replay, which reads them by the
hundred, needs the states in between only where a digest of one is recorded. A test holds this fold to ``evolve``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from .errors import IllegalTransition
from .events import ChangeObserved, FeedbackReceived
from .policies import change_key
from .state import AgentState, Waiting
from .window import Window
from .words import ORIGIN, Seq

RUN_TYPES: Final = frozenset({ChangeObserved.__name__, FeedbackReceived.__name__})
"""What a run consists of."""


def evolve_run(state: AgentState, events: Sequence[ChangeObserved | FeedbackReceived]) -> AgentState:
    """Gives the state after changes and feedback that follow each other.

    Args:
        state: the state in front of the first; not the empty one.
        events: the signals, in order.

    Raises:
        IllegalTransition: a log begins otherwise, or a change does not say rightly whether it was seen before.
    """
    placed = [(place, event) for place, event in enumerate(events, state.head + 1) if type(event) is ChangeObserved]
    last = Seq(state.head + len(events))
    return evolve_signals(state, last, [event for _, event in placed], [place for place, _ in placed])


def evolve_signals(
    state: AgentState, last: Seq, changes: Sequence[ChangeObserved], places: Sequence[int]
) -> AgentState:
    """Gives the state after the signals up to ``last``, of which only the changes are told from each other.

    Args:
        state: the state in front of the first; not the empty one.
        last: the position of the last signal. All between are changes or feedback.
        changes: the changes among them, in order.
        places: their positions.

    Raises:
        IllegalTransition: a log begins otherwise, or a change does not say rightly whether it was seen before.
    """
    if state.head == ORIGIN:
        raise IllegalTransition("the first event of a log, and no other, is WorkspaceInitialized")
    first, count = Seq(state.head + 1), last - state.head
    if not changes:
        return replace(state, head=last, waiting=_longer(state.waiting, first, last, count))
    tree = changes[-1].tree
    judged = _all_new(state, changes)
    if judged is None:
        judged, seen = _judged(state, changes, places)
        waits = [place for place in range(first, last + 1) if place not in seen]
        if not waits:
            return replace(state, head=last, tree=tree)
        first, count = Seq(waits[0]), len(waits)
        return replace(
            state, head=last, tree=tree, judged=judged, waiting=_longer(state.waiting, first, Seq(waits[-1]), count)
        )
    return replace(state, head=last, tree=tree, judged=judged, waiting=_longer(state.waiting, first, last, count))


def _all_new(state: AgentState, changes: Sequence[ChangeObserved]) -> Window | None:
    """Gives what was judged lately after changes of which none was seen before; None where they must be looked at."""
    if True in [event.seen for event in changes]:
        return None
    return state.judged.extended([*map(change_key, changes)], state.policy.cycle.judged_max)


def _judged(
    state: AgentState, changes: Sequence[ChangeObserved], places: Sequence[int]
) -> tuple[Window, frozenset[int]]:
    """Gives what was judged lately after changes, looked at one by one, and the places of those seen before."""
    judged, seen = state.judged, set[int]()
    for event, place in zip(changes, places, strict=True):
        key = change_key(event)
        if event.seen != (key in judged):
            raise IllegalTransition(f"a change of {event.path} must say whether it was seen before")
        if event.seen:
            seen.add(place)
        else:
            judged = judged.pushed(key, state.policy.cycle.judged_max)
    return judged, frozenset(seen)


def _longer(waiting: tuple[Waiting, ...], first: Seq, last: Seq, count: int) -> tuple[Waiting, ...]:
    """Appends signals to the last run of signals, or begins one behind a task."""
    if not count:
        return waiting
    if waiting and waiting[-1].entry == "signals":
        run = waiting[-1]
        return (*waiting[:-1], Waiting("signals", run.first, last, run.count + count))
    return (*waiting, Waiting("signals", first, last, count))
