"""A state is written in every form that logs hold digests of; an old one leaves out what it did not know."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from immutables import Map

from instar.fsm import state as state_of
from instar.fsm.events import Ability, Interval
from instar.fsm.policy import GatePolicy, MutationPolicy, Policy
from instar.fsm.state import (
    FORM,
    AgentState,
    Candidate,
    CheckpointProbation,
    Cycle,
    Probation,
    decode_state,
    encode_state,
    form_of,
    state_digest,
)
from instar.fsm.values import Span
from instar.fsm.words import Digest, Seq, digest_of


def full() -> AgentState:
    change = Interval(-0.01, -0.02, 0.0)
    candidate = Candidate(Seq(9), Digest("c"), change, 8, (Ability("own", 30, 0.9, 0.89, change),), 0.04)
    cycle = Cycle(number=1, started=Seq(2), entry="signals", span=Span(Seq(2), Seq(2)), count=1, candidate=candidate)
    return AgentState(head=Seq(9), cycle=cycle, calibrations=Map({"a": 0.05, "b": 0.04}))


def test_present_form_comes_back_whole() -> None:
    state = full()
    assert decode_state(encode_state(state)) == state
    assert form_of(state_digest(state)) == FORM
    assert state_digest(state) == f"{FORM}:{digest_of(encode_state(state))}"


def test_form_1_leaves_out_what_came_later() -> None:
    state = full()
    plain = msgspec.structs.replace(state, calibrations=Map())
    assert state.cycle is not None
    assert state.cycle.candidate is not None
    bare = msgspec.structs.replace(state.cycle.candidate, abilities=None, temperature=None)
    plain = msgspec.structs.replace(plain, cycle=msgspec.structs.replace(state.cycle, candidate=bare))
    assert state_digest(state, 1) == state_digest(plain, 1)
    assert state_digest(state, 2) != state_digest(plain, 2)
    assert form_of(state_digest(state, 1)) == 1


FORM_5_OF_NINE = "5:572a2dec5b1dad26ae387fc8d5d773222ed3dd046753c26744ee4c532a0d06e9"


def test_calibrations_are_digested_alike_in_any_order() -> None:
    one = AgentState(calibrations=Map({"a": 0.05, "b": 0.04}))
    other = AgentState(calibrations=Map[str, float]().set("b", 0.04).set("a", 0.05))
    assert state_digest(one) == state_digest(other)


def test_form_4_leaves_out_the_probation_of_checkpoints() -> None:
    watch = CheckpointProbation(applied=Seq(3), left=9, watched=(), checkpoint=Digest("c"))
    gate = GatePolicy(probation=3, fall_max=0.2, p_max=0.01)
    plain = AgentState(head=Seq(9))
    state = msgspec.structs.replace(plain, checkpoint_probations=(watch,), policy=Policy(gate=gate))
    assert state_digest(state, 4) == state_digest(plain, 4)
    assert state_digest(state, 5) != state_digest(plain, 5)
    assert decode_state(encode_state(state)) == state


def test_form_4_leaves_out_where_a_watch_began_anew_and_earlier_forms_the_watch() -> None:
    watch = Probation(applied=Seq(3), left=9, watched=(), accepted=Seq(2), tree=Digest("t"))
    state = AgentState(head=Seq(9), mutation_probations=(msgspec.structs.replace(watch, anew=Seq(8)),))
    plain = msgspec.structs.replace(state, mutation_probations=(watch,))
    assert state_digest(state, 4) == state_digest(plain, 4)
    assert state_digest(state, 5) != state_digest(plain, 5)
    for form in (1, 2, 3):
        assert state_digest(state, form) == state_digest(AgentState(head=Seq(9)), form)
    assert decode_state(encode_state(state)) == state


def test_form_5_names_the_one_mutation_that_was_watched_and_form_6_all() -> None:
    watch = Probation(applied=Seq(3), left=9, watched=(), accepted=Seq(2), tree=Digest("t"))
    # A policy is recorded whole: its defaults may become others.
    protected = ("tests/", "test_*.py", "*_test.py", "conftest.py", "instar.toml", "pyproject.toml")
    plain = AgentState(head=Seq(9), policy=Policy(mutation=MutationPolicy(protected=protected)))
    state = msgspec.structs.replace(plain, mutation_probations=(watch,))
    beside = msgspec.structs.replace(watch, beside=True)
    assert state_digest(state, 5) != state_digest(plain, 5)
    assert state_digest(state) != state_digest(msgspec.structs.replace(state, mutation_probations=(beside,)))
    # As it was written by the version that watched one: the digest of that form is part of logs, for ever.
    assert state_digest(plain, 5) == FORM_5_OF_NINE
    assert decode_state(encode_state(state)) == state


def test_large_map_that_many_states_share_is_written_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of thousands of task types takes 10 ms to write, and a state is digested at each 64th event."""
    large = Map({f"ticket-{n}": Seq(n) for n in range(2000)})
    other = large.set("ticket-0", Seq(7))
    plain = dict(sorted(large.items()))
    written: list[int] = []
    kept = state_of.ENCODER

    class Counting:
        def encode(self, content: Any) -> bytes:
            written.append(len(content) if isinstance(content, dict) else 1)
            return kept.encode(content)

    monkeypatch.setattr(state_of, "ENCODER", Counting())
    for head in range(1, 5):
        assert msgspec.json.decode(encode_state(AgentState(head=Seq(head), snapshots=large)))["snapshots"] == plain
    assert written.count(2000) == 1
    for snapshots, first in ((other, 7), (large, 0)):
        told = msgspec.json.decode(encode_state(AgentState(snapshots=snapshots)))["snapshots"]
        assert (told["ticket-0"], len(told)) == (first, 2000)
