"""Events to canonical JSON and back, over every version that was ever written."""

from __future__ import annotations

import math
from typing import Any, Final, get_args

import msgspec
from msgspec import Struct

from .errors import InputRefused, UnknownEvent
from .events import AnyEvent, Event, FeedbackReceived
from .upcasters import UPCASTERS

TYPES: dict[str, type[Event]] = {member.__name__: member for member in get_args(AnyEvent)}
"""Every event type by its name in the log."""

_ENCODER = msgspec.json.Encoder(order="sorted")


class _Decoders(dict[type[Struct], msgspec.json.Decoder[Any]]):
    """Makes what it lacks: most commands meet few of the types, and making all takes them a tenth of their time."""

    def __missing__(self, struct: type[Struct]) -> msgspec.json.Decoder[Any]:
        made = self[struct] = msgspec.json.Decoder(struct)
        return made


DECODERS: Final = _Decoders()
"""The decoder of each type's present shape; it refuses a payload that names another type."""


def encode_event(event: AnyEvent) -> bytes:
    """Gives the canonical JSON of an event: sorted keys, no white space, UTF-8, its type under ``type``.

    Raises:
        InputRefused: a text in it is no UTF-8, a number in it is none, or infinite, or a value is of another type
            than its field: what nobody could read again has no place in a log that forgets nothing.
    """
    try:
        payload = _ENCODER.encode(event)
    except UnicodeEncodeError as error:
        half = ascii(error.object[error.start : error.end])
        raise InputRefused(
            f"a text of {type(event).__name__} holds {half}, half a character, which no UTF-8 can hold: nothing was "
            'recorded. Decode bytes with errors="replace" or "backslashreplace", and give that.'
        ) from error
    for name in _NUMBERED[type(event)]:
        value = getattr(event, name)
        if value is not None and (path := _no_number(name, value)):
            raise InputRefused(
                f"{path} of {type(event).__name__} is no finite number, which JSON cannot hold: nothing was recorded. "
                "Give a number."
            )
    if type(event) is not FeedbackReceived:  # those were converted, and come by the thousand
        try:
            DECODERS[type(event)].decode(payload)
        except msgspec.MsgspecError as error:
            raise InputRefused(f"{type(event).__name__} cannot hold this: {error}; nothing was recorded") from error
    return payload


def _no_number(path: str, value: object) -> str:
    """Gives the path, from this value's on, of the first number that is none, or infinite; empty if there is none."""
    match value:
        case float():
            return "" if math.isfinite(value) else path
        case Struct():
            parts: Any = ((name, getattr(value, name)) for name in _NUMBERED[type(value)])
        case tuple() | list():
            parts = enumerate(value)
        case dict():
            parts = value.items()
        case _:
            return ""
    return next((found for name, part in parts if (found := _no_number(f"{path}.{name}", part))), "")


class _Numbered(dict[type[Struct], tuple[str, ...]]):
    """Makes what it lacks, as ``_Decoders`` does."""

    def __missing__(self, struct: type[Struct]) -> tuple[str, ...]:
        info = msgspec.inspect.type_info(struct)
        assert isinstance(info, msgspec.inspect.StructType)
        made = self[struct] = tuple(field.name for field in info.fields if _holds_number(field.type))
        return made


_NUMBERED: Final = _Numbered()
"""Of each event and what it holds: the fields in which a number may stand that JSON cannot hold."""


def _holds_number(kind: object) -> bool:
    match kind:
        case msgspec.inspect.FloatType() | msgspec.inspect.AnyType():
            return True
        case msgspec.inspect.UnionType(types=types):
            return any(map(_holds_number, types))
        case msgspec.inspect.VarTupleType(item_type=inner) | msgspec.inspect.ListType(item_type=inner):
            return _holds_number(inner)
        case msgspec.inspect.TupleType(item_types=types):
            return any(map(_holds_number, types))
        case msgspec.inspect.DictType(value_type=inner):
            return _holds_number(inner)
        case msgspec.inspect.StructType(cls=struct):
            return bool(_NUMBERED[struct])
        case _:
            return False


def decode_event(kind: str, version: int, payload: bytes) -> AnyEvent:
    """Reads an event of any version that was ever written.

    Raises:
        UnknownEvent: the type or version is not known here, or the payload does not have its shape.
    """
    struct = TYPES.get(kind)
    try:
        if struct is not None and version == struct.VERSION:
            event: AnyEvent = DECODERS[struct].decode(payload)
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
    event: AnyEvent = DECODERS[struct].decode(_ENCODER.encode(content))
    return event
