"""Payloads of every older version are read in the present shape."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

from instar.fsm.codec import TYPES, decode_event, encode_event
from instar.fsm.errors import UnknownEvent
from instar.fsm.events import AnyEvent
from instar.fsm.upcasters import UPCASTERS
from instar.fsm.words import digest_of
from tests.fsm.builders import EVENTS, trained


def test_every_older_version_leads_to_the_next_one() -> None:
    steps = {(name, version) for name, kind in TYPES.items() for version in range(1, kind.VERSION)}
    assert set(UPCASTERS) == steps


def test_interval_of_a_gain_before_version_4_covers_95_percent() -> None:
    content = json.loads(encode_event(trained()))
    del content["gain_level"], content["gain_of"], content["origin"]
    read = decode_event("CheckpointTrained", 3, json.dumps(content).encode())
    assert read == replace(trained(), gain_level=0.95, gain_of="reciprocal rank")


def test_gain_before_version_5_is_of_ranks() -> None:
    content = json.loads(encode_event(trained()))
    assert content.pop("gain_of") == "log score"
    del content["origin"]
    read = decode_event("CheckpointTrained", 4, json.dumps(content).encode())
    assert read == replace(trained(), gain_of="reciprocal rank")


def test_general_texts_before_version_6_were_held_where_the_base_had_them() -> None:
    content = json.loads(encode_event(replace(trained(), origin=digest_of(b"origin"))))
    assert content.pop("origin")
    read = decode_event("CheckpointTrained", 5, json.dumps(content).encode())
    assert read == trained()
    assert read.origin is None


@pytest.mark.parametrize("level", [0.0, 1.0, 7])
def test_level_of_an_interval_that_can_be_none_is_refused(level: float) -> None:
    content = json.loads(encode_event(trained())) | {"gain_level": level}
    with pytest.raises(UnknownEvent):
        decode_event("CheckpointTrained", 7, json.dumps(content).encode())


def test_before_version_7_every_checkpoint_was_trained() -> None:
    content = json.loads(encode_event(replace(trained(), brought=3)))
    del content["brought"]
    assert decode_event("CheckpointTrained", 6, json.dumps(content).encode()) == trained()


@pytest.mark.parametrize(
    "event",
    [event for event in EVENTS if event.VERSION > 1 and "environment" in event.__struct_fields__],
    ids=lambda event: type(event).__name__,
)
def test_outcome_of_version_1_was_computed_nobody_knows_where(event: AnyEvent) -> None:
    content = json.loads(encode_event(event))
    del content["environment"]
    read = decode_event(type(event).__name__, 1, json.dumps(content).encode())
    assert read == event
    assert read.environment is None  # type: ignore[union-attr]
