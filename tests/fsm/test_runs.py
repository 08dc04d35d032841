"""A run of signals folds to what its events fold to one after the other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from instar.fsm import events as e
from instar.fsm.errors import IllegalTransition
from instar.fsm.evolve import evolve
from instar.fsm.policies import change_key
from instar.fsm.policy import CyclePolicy
from instar.fsm.runs import RUN_TYPES, evolve_run
from instar.fsm.state import AgentState, encode_state
from instar.fsm.words import Seq, digest_of
from tests.fsm.builders import CHANGE, FEEDBACK, fold, fresh

_CHANGES = [replace(CHANGE, path=f"{name}.py", tree=digest_of(name.encode())) for name in "abcde"]


def one_by_one(state: AgentState, events: list[e.AnyEvent]) -> AgentState:
    for event in events:
        state = evolve(state, event, seq=Seq(state.head + 1), cause=None, at_us=1)
    return state


def said(state: AgentState, drawn: list[int]) -> list[e.AnyEvent]:
    """Makes signals of numbers: feedback, or one of a few changes that says rightly whether it was seen."""
    events: list[e.AnyEvent] = []
    for number in drawn:
        if number >= len(_CHANGES):
            events.append(FEEDBACK)
        else:
            seen = change_key(_CHANGES[number]) in one_by_one(state, events).judged
            events.append(replace(_CHANGES[number], seen=seen))
    return events


@given(st.lists(st.integers(0, 7), max_size=12), st.integers(1, 4), st.sampled_from(["", "task", "signal", "cycle"]))
def test_run_folds_as_its_events_do(drawn: list[int], judged_max: int, before: str) -> None:
    state = fresh(cycle=CyclePolicy(judged_max=judged_max))
    if before:
        state = fold(state, FEEDBACK)
    if before == "task":
        state = fold(state, e.TaskQueued(task="self_train", source="t"))
    if before == "cycle":
        run = state.waiting[0]
        state = fold(state, e.CycleStarted(entry="signals", span=e.Span(run.first, run.last), count=1))
    events = said(state, drawn)
    assert {type(event).__name__ for event in events} <= RUN_TYPES
    folded = evolve_run(state, events)  # type: ignore[arg-type]
    expected = one_by_one(state, events)
    assert folded == expected
    assert encode_state(folded) == encode_state(expected)


def test_run_refuses_what_its_events_would() -> None:
    state = fresh()
    for events in ([CHANGE, CHANGE], [replace(CHANGE, seen=True)]):
        with pytest.raises(IllegalTransition, match="seen before"):
            one_by_one(state, events)  # type: ignore[arg-type]
        with pytest.raises(IllegalTransition, match="seen before"):
            evolve_run(state, events)
    with pytest.raises(IllegalTransition, match="WorkspaceInitialized"):
        evolve_run(AgentState(), [FEEDBACK])
