"""Comparing a recorded outcome with the one that was made again, field by field."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from instar.fsm.events import AnyEvent

ABSENT = "absent"


class Mismatch(Struct, frozen=True):
    """A field that is recorded otherwise than it was made again, such as ``items[3].similarity``."""

    field: str
    recorded: Any
    again: Any


class Explained(NamedTuple):
    """What a difference looks like inside the blobs; ``far`` if it is too large to come from rounding."""

    text: str = ""
    far: bool = False


def mismatches(recorded: AnyEvent, again: AnyEvent, leave_out: Collection[str] = ()) -> list[Mismatch]:
    """Lists the fields in which two events differ.

    Args:
        recorded: what the log holds.
        again: what was made again.
        leave_out: fields that are facts of the run and not of its result.
    """
    before, after = msgspec.to_builtins(recorded), msgspec.to_builtins(again)
    for name in leave_out:
        before.pop(name, None)
        after.pop(name, None)
    return list(_compare("", before, after))


def _compare(field: str, recorded: Any, again: Any) -> Iterator[Mismatch]:
    if isinstance(recorded, dict) and isinstance(again, dict):
        for name in (*recorded, *(name for name in again if name not in recorded)):
            inner = f"{field}.{name}" if field else str(name)
            yield from _compare(inner, recorded.get(name, ABSENT), again.get(name, ABSENT))
    elif isinstance(recorded, list | tuple) and isinstance(again, list | tuple):
        if len(recorded) != len(again):
            yield Mismatch(f"{field} (their number)", len(recorded), len(again))
        for number, (one, other) in enumerate(zip(recorded, again, strict=False)):
            yield from _compare(f"{field}[{number}]", one, other)
    elif recorded != again:
        yield Mismatch(field, recorded, again)
