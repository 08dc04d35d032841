"""The declared machine and the compiled table agree on every state and event."""

from __future__ import annotations

import itertools

import pytest
from msgspec.structs import replace
from transitions import MachineError

from instar.fsm.codec import TYPES
from instar.fsm.errors import IllegalTransition
from instar.fsm.events import AnyEvent
from instar.fsm.machine import build_machine, compile_table, next_state
from instar.fsm.words import State
from tests.fsm.builders import EVENTS, fresh

NOW_US = 10_000_000


def test_events_of_every_type_are_tried() -> None:
    assert {type(event).__name__ for event in EVENTS} == set(TYPES)


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_table_moves_as_transitions_does(state: State, event: AnyEvent) -> None:
    facts = replace(fresh(), machine=state)
    machine, subject = build_machine()
    machine.set_state(state, subject)
    name = type(event).__name__
    try:
        accepted = subject.trigger(name, facts, event, NOW_US)
    except MachineError:
        accepted = False
    if not accepted:
        with pytest.raises(IllegalTransition):
            next_state(facts, event, NOW_US)
        return
    target = next_state(facts, event, NOW_US)
    assert (target or state) == subject.state


def test_every_state_is_entered_and_left() -> None:
    moves = {(source, step.target) for (source, _), steps in compile_table().items() for step in steps if step.target}
    for state in State:
        assert any(target is state and source is not state for source, target in moves), f"{state} is never entered"
        assert any(source is state and target is not state for source, target in moves), f"{state} is never left"


def test_full_cycle_passes_the_eight_states_in_order() -> None:
    order = list(State)
    table = compile_table()
    for source, target in itertools.pairwise(order):
        assert any(step.target is target for (at, _), steps in table.items() if at is source for step in steps)
    assert any(step.target is State.IDLE for step in table[State.PLANNING, "PlanChosen"])


def test_declared_machine_has_no_auto_transitions() -> None:
    machine, _ = build_machine()
    assert not [name for name in machine.events if name.startswith("to_")]
    assert all(
        not way.before and not way.after and not way.prepare
        for event in machine.events.values()
        for ways in event.transitions.values()
        for way in ways
    )
