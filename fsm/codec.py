"""Events to canonical JSON and back, over every version that was ever written."""

from __future__ import annotations

from typing import Any, get_args

import msgspec

from .errors import InputRefused, UnknownEvent
from .events import AnyEvent, Event
from .upcasters import UPCASTERS

TYPES: dict[str, type[Event]] = {member.__name__: member for member in get_args(AnyEvent)}
"""Every event type by its name in the log."""

_ENCODER = msgspec.json.Encoder(order="sorted")
DECODERS: dict[tuple[str, int], msgspec.json.Decoder[Any]] = {
    (name, struct.VERSION): msgspec.json.Decoder(struct) for name, struct in TYPES.items()
}
"""The decoder of each present shape; it refuses a payload that names another type."""


def encode_event(event: AnyEvent) -> bytes:
    """Gives the canonical JSON of an event: sorted keys, no white space, UTF-8, its type under ``type``.

    Raises:
        InputRefused: a text in it is no UTF-8.
    """
    try:
        return _ENCODER.encode(event)
    except UnicodeEncodeError as error:
        half = ascii(error.object[error.start : error.end])
        raise InputRefused(
            f"a text of {type(event).__name__} holds {half}, half a character, which no UTF-8 can hold: nothing was "
            'recorded. Decode bytes with errors="replace" or "backslashreplace", and give that.'
        ) from error


def decode_event(kind: str, version: int, payload: bytes) -> AnyEvent:
    """Reads an event of any version that was ever written.

    Raises:
        UnknownEvent: the type or version is not known here, or the payload does not have its shape.
    """
    decoder = DECODERS.get((kind, version))
    try:
        if decoder is not None:
            event: AnyEvent = decoder.decode(payload)
            return event
        return _upcast(kind, version, payload)
    except msgspec.MsgspecError as error:
        raise UnknownEvent(
            f"a payload of {kind} version {version} does not have its shape: {error}. Run `instar replay --verify`."
        ) from error


def _upcast(kind: str, version: int, payload: bytes) -> AnyEvent:
    struct = TYPES.get(kind)
    if struct is None or not 1 <= version < struct.VERSION:
        raise UnknownEvent(
            f"no decoder for event {kind} version {version}: the log was written by a newer Instar. "
            f"Install that version to read it; nothing was changed."
        )
    content = msgspec.json.decode(payload)
    for step in range(version, struct.VERSION):
        upcaster = UPCASTERS.get((kind, step))
        if upcaster is None:
            raise UnknownEvent(f"no upcaster leads from {kind} version {step} to version {step + 1}")
        content = upcaster(content)
    event: AnyEvent = DECODERS[kind, struct.VERSION].decode(_ENCODER.encode(content))
    return event
