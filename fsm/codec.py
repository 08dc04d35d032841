"""Events to canonical JSON and back, over every version that was ever written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import msgspec

from .errors import UnknownEvent
from .events import AnyEvent, Event

TYPES: dict[str, type[Event]] = {member.__name__: member for member in get_args(AnyEvent)}
"""Every event type by its name in the log."""

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]
UPCASTERS: dict[tuple[str, int], Upcaster] = {}
"""From ``(type, version)`` to a function that gives the payload in the shape of ``version + 1``."""

_ENCODER = msgspec.json.Encoder(order="sorted")
_DECODER: msgspec.json.Decoder[Any] = msgspec.json.Decoder(AnyEvent)


def encode_event(event: AnyEvent) -> bytes:
    """Gives the canonical JSON of an event: sorted keys, no white space, UTF-8, its type under ``type``."""
    return _ENCODER.encode(event)


def decode_event(kind: str, version: int, payload: bytes) -> AnyEvent:
    """Reads an event of any version that was ever written.

    Raises:
        UnknownEvent: the type or version is not known here, or the payload does not have its shape.
    """
    struct = TYPES.get(kind)
    if struct is None or version > struct.VERSION or version < 1:
        raise UnknownEvent(
            f"no decoder for event {kind} version {version}: the log was written by a newer Instar. "
            f"Install that version to read it; nothing was changed."
        )
    try:
        event: AnyEvent = _DECODER.decode(payload if version == struct.VERSION else _upcast(kind, version, payload))
    except msgspec.MsgspecError as error:
        raise UnknownEvent(f"a payload of {kind} version {version} does not have its shape: {error}") from error
    if type(event) is not struct:
        raise UnknownEvent(f"a row of type {kind} holds a payload of type {type(event).__name__}")
    return event


def _upcast(kind: str, version: int, payload: bytes) -> bytes:
    content = msgspec.json.decode(payload)
    for step in range(version, TYPES[kind].VERSION):
        upcaster = UPCASTERS.get((kind, step))
        if upcaster is None:
            raise UnknownEvent(f"no upcaster leads from {kind} version {step} to version {step + 1}")
        content = upcaster(content)
    return _ENCODER.encode(content)
