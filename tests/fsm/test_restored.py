"""What a restore did itself raises no flag; a log that did not say so folds as it did."""

from __future__ import annotations

from msgspec.structs import replace

from instar.fsm.policies import triggers
from instar.fsm.state import AgentState
from instar.fsm.words import Seq
from tests.fsm.builders import embedded, item

MOVED = embedded(item(2, kind="unit", similarity=0.1, meaning_changed=True))


def test_unit_that_a_restore_moved_back_is_no_drift() -> None:
    state = AgentState()
    assert [one.policy for one in triggers(state, replace(MOVED, restored=()))] == ["semantic_drift"]
    assert triggers(state, replace(MOVED, restored=(Seq(2),))) == ()


def test_older_event_that_does_not_say_what_was_restored_flags_as_it_did() -> None:
    assert MOVED.restored is None
    assert [one.policy for one in triggers(AgentState(), MOVED)] == ["semantic_drift"]
