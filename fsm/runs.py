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
    if state.head == ORIGIN:
        raise IllegalTransition("the first event of a log, and no other, is WorkspaceInitialized")
    tree, judged, size_max = state.tree, state.judged, state.policy.cycle.judged_max
    first = last = ORIGIN
    count, seq = 0, state.head
    for event in events:
        seq = Seq(seq + 1)
        if type(event) is ChangeObserved:
            tree, key = event.tree, change_key(event)
            if event.seen != (key in judged):
                raise IllegalTransition(f"a change of {event.path} must say whether it was seen before")
            if event.seen:
                continue
            judged = judged.pushed(key, size_max)
        count += 1
        first, last = first or seq, seq
    if not count:
        return replace(state, head=seq, tree=tree)
    return replace(state, head=seq, tree=tree, judged=judged, waiting=_longer(state.waiting, first, last, count))


def _longer(waiting: tuple[Waiting, ...], first: Seq, last: Seq, count: int) -> tuple[Waiting, ...]:
    """Appends signals to the last run of signals, or begins one behind a task."""
    if waiting and waiting[-1].entry == "signals":
        run = waiting[-1]
        return (*waiting[:-1], Waiting("signals", run.first, last, run.count + count))
    return (*waiting, Waiting("signals", first, last, count))
