"""Events to canonical JSON and back, and the chain."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from instar.fsm import codec
from instar.fsm.chain import GENESIS, link
from instar.fsm.errors import InputRefused, UnknownEvent
from instar.fsm.events import AnyEvent, FeedbackReceived, Reward
from instar.fsm.upcasters import UPCASTERS
from instar.fsm.words import Seq, State
from tests.fsm.builders import EVENTS, FEEDBACK, embedded, item, rewarded

NUMBERED = (
    *EVENTS,
    msgspec.structs.replace(FEEDBACK, reward=0.5),
    rewarded(rewards=(Reward(Seq(3), "t", 0.5, "fail"),)),
    embedded(item(3, similarity=0.5)),
)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_event_survives_its_json(event: AnyEvent) -> None:
    payload = codec.encode_event(event)
    assert codec.decode_event(type(event).__name__, event.VERSION, payload) == event
    keys = list(json.loads(payload))
    assert keys == sorted(keys)
    assert codec.encode_event(codec.decode_event(type(event).__name__, 1, payload)) == payload


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("event", NUMBERED, ids=lambda event: type(event).__name__)
def test_number_that_nobody_could_read_again_is_refused(event: AnyEvent, number: float) -> None:
    for path, changed in _each_number(event, number):
        with pytest.raises(InputRefused, match=rf"^{path} of {type(event).__name__} is no finite number"):
            codec.encode_event(changed)


def test_there_are_events_with_numbers_at_every_depth() -> None:
    paths = {path for event in NUMBERED for path, _ in _each_number(event, math.nan)}
    assert {"reward", "rewards.0.score", "gain.mean", "policy.gate.gain_min", "items.0.similarity"} <= paths, paths


def _each_number(value: Any, number: float) -> Iterator[tuple[str, Any]]:
    """Gives copies of an event, in each of which one number is another."""
    if isinstance(value, float):
        yield "", number
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            for path, part in _each_number(getattr(value, name), number):
                yield _joined(name, path), msgspec.structs.replace(value, **{name: part})
    elif isinstance(value, tuple):
        for at, held in enumerate(value):
            for path, part in _each_number(held, number):
                yield _joined(str(at), path), (*value[:at], part, *value[at + 1 :])
    elif isinstance(value, dict):
        for key, held in value.items():
            for path, part in _each_number(held, number):
                yield _joined(str(key), path), {**value, key: part}


def _joined(name: str, path: str) -> str:
    return f"{name}.{path}" if path else name


@given(st.text(), st.floats(0, 1), st.one_of(st.none(), st.text()))
def test_any_text_survives(text: str, confidence: float, reference: str | None) -> None:
    event = FeedbackReceived(task_type="t", input=text, confidence=confidence, reference=reference)
    assert codec.decode_event("FeedbackReceived", 1, codec.encode_event(event)) == event


def test_unknown_type_version_and_shape_are_named() -> None:
    with pytest.raises(UnknownEvent, match="newer Instar"):
        codec.decode_event("NeverHeardOf", 1, b"{}")
    with pytest.raises(UnknownEvent, match="newer Instar"):
        codec.decode_event("FeedbackReceived", 99, b"{}")
    with pytest.raises(UnknownEvent, match="does not have its shape"):
        codec.decode_event("FeedbackReceived", 1, b'{"type":"FeedbackReceived"}')
    with pytest.raises(UnknownEvent, match="Invalid value 'FeedbackReceived'"):
        codec.decode_event("TaskQueued", 1, codec.encode_event(FEEDBACK))


def test_old_version_is_upcast(monkeypatch: pytest.MonkeyPatch) -> None:
    class Newer(FeedbackReceived, tag="FeedbackReceived", frozen=True, kw_only=True):
        VERSION = 2

    monkeypatch.setitem(codec.TYPES, "FeedbackReceived", Newer)
    monkeypatch.setitem(
        UPCASTERS, ("FeedbackReceived", 1), lambda content: {**content, "task_type": content.pop("kind")}
    )
    event = codec.decode_event("FeedbackReceived", 1, b'{"type":"FeedbackReceived","kind":"find","input":"x"}')
    assert isinstance(event, Newer)
    assert event.task_type == "find"


def test_link_covers_every_column() -> None:
    row = {
        "prev_hash": GENESIS,
        "seq": Seq(1),
        "kind": "A",
        "version": 1,
        "recorded_at_us": 1,
        "cycle": 0,
        "cause": None,
        "actor": "a",
        "state_before": State.IDLE,
        "state_after": State.IDLE,
        "key": None,
        "payload_hash": "00",
        "state_digest": None,
    }
    first = link(**row)  # type: ignore[arg-type]
    others = {
        "prev_hash": "1",
        "seq": 2,
        "kind": "B",
        "version": 2,
        "recorded_at_us": 2,
        "cycle": 1,
        "cause": 1,
        "actor": "b",
        "state_before": State.TRAINING,
        "state_after": State.TRAINING,
        "key": "k",
        "payload_hash": "01",
        "state_digest": "d",
    }
    for column, value in others.items():
        assert link(**(row | {column: value})) != first, column  # type: ignore[arg-type]
