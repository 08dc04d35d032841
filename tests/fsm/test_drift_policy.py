"""Decisions on drift: of units, by what their syntax says; of outcomes over time, by what a test said."""

from __future__ import annotations

import msgspec
import pytest
from immutables import Map
from msgspec.structs import replace

from instar.fsm import events as e
from instar.fsm.codec import decode_event, encode_event
from instar.fsm.decisions import windows_due
from instar.fsm.policies import triggers
from instar.fsm.policy import DriftPolicy, Policy
from instar.fsm.rewards import Standing
from instar.fsm.state import AgentState, state_digest
from instar.fsm.words import Seq
from tests.fsm.builders import embedded, fresh, item


def window(task_type: str, p_value: float) -> e.WindowDrift:
    return e.WindowDrift(
        task_type=task_type,
        size=64,
        reference=e.Span(Seq(2), Seq(90)),
        current=e.Span(Seq(91), Seq(160)),
        mmd2=0.1,
        p_value=p_value,
        effect=8.0,
        bandwidth=1.0,
        seed=7,
        permutations=1000,
        farthest=(Seq(120), Seq(99)),
        nearest=(Seq(91),),
    )


def counted(count: int) -> AgentState:
    standing = Standing(task_type="find", count=count, mean=1.0, passes=count, fails=0, skips=0, last=Seq(2))
    return replace(fresh(), standings=Map({"find": standing}))


@pytest.mark.parametrize(("drift", "flagged"), [(0.31, True), (0.30, False), (0.05, False)])
def test_drift_of_a_unit_is_decided_before_its_cosine(drift: float, flagged: bool) -> None:
    event = embedded(item(2, kind="unit", drift=drift, similarity=0.5, meaning_changed=True))
    assert [trigger.policy for trigger in triggers(fresh(), event)] == (["semantic_drift"] if flagged else [])


def test_drift_over_time_shares_its_threshold_among_the_tests_of_a_cycle() -> None:
    one = replace(embedded(), windows=(window("find", 0.006),))
    (trigger,) = triggers(fresh(), one)
    assert (trigger.policy, trigger.value, trigger.threshold) == ("semantic_drift", 0.006, 0.01)
    assert trigger.events == (99, 120)
    assert "find (8.0 deviations)" in trigger.note
    assert triggers(fresh(), replace(one, windows=(window("find", 0.006), window("open", 0.5)))) == ()
    never = replace(fresh(), policy=Policy(drift=DriftPolicy(p_max=0.0)))
    assert triggers(never, one) == ()


@pytest.mark.parametrize(
    ("before", "new", "due"),
    [(0, 128, True), (127, 1, True), (128, 1, False), (64, 63, False), (0, 64, False), (190, 2, True)],
)
def test_window_is_due_once_it_is_full(before: int, new: int, due: bool) -> None:
    rows = [item(seq, outcome="pass", task_type="find") for seq in range(2, 2 + new)]
    assert windows_due(counted(before), rows) == (("find",) if due else ())


def test_log_of_an_older_version_knows_no_windows_and_no_drift() -> None:
    content = msgspec.json.decode(encode_event(embedded(item(2))))
    content.pop("windows", None)
    content.pop("restored", None)
    old = decode_event("SignalEmbedded", 2, msgspec.json.encode(content))
    assert isinstance(old, e.SignalEmbedded)
    assert (old.windows, old.items[0].drift) == (None, None)


def test_digests_of_the_old_forms_do_not_know_the_new_policy() -> None:
    other = replace(fresh(), policy=Policy(drift=DriftPolicy(window=99, p_max=0.5)))
    assert all(state_digest(fresh(), form) == state_digest(other, form) for form in (1, 2))
    assert state_digest(fresh()) != state_digest(other)
