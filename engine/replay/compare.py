"""Compares what was recorded with what should have been, byte for byte, and names the first field that differs."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from instar.fsm.errors import ReplayDiverged

_ENCODER = msgspec.json.Encoder(order="sorted")
_ABSENT = "absent"


class Difference(NamedTuple):
    """A field in which two values differ, and what each holds there."""

    field: str
    expected: Any
    actual: Any


def difference(expected: Any, actual: Any, field: str = "") -> Difference | None:
    """Finds the first field, in the order of the canonical JSON, in which two values differ; None if none does."""
    if _ENCODER.encode(expected) == _ENCODER.encode(actual):
        return None
    return _within(_plain(expected), _plain(actual), field)


def compare(seq: int, expected: Any, actual: Any, field: str = "") -> None:
    """Compares a decision that was taken again with the recorded one.

    Raises:
        ReplayDiverged: they differ; the error names the field.
    """
    found = difference(expected, actual, field)
    if found is not None:
        raise ReplayDiverged(seq, found.field, found.expected, found.actual)


def _plain(value: Any) -> Any:
    return msgspec.json.decode(_ENCODER.encode(value))


def _within(expected: Any, actual: Any, field: str) -> Difference:
    if isinstance(expected, dict) and isinstance(actual, dict):
        for name in sorted(expected.keys() | actual.keys()):
            one, other = expected.get(name, _ABSENT), actual.get(name, _ABSENT)
            if one != other:
                return _within(one, other, f"{field}.{name}" if field else name)
    if isinstance(expected, list) and isinstance(actual, list):
        for place, (one, other) in enumerate(zip(expected, actual, strict=False)):
            if one != other:
                return _within(one, other, f"{field}[{place}]")
        return Difference(f"{field}.length" if field else "length", len(expected), len(actual))
    return Difference(field, expected, actual)
