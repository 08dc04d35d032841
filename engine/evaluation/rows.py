"""The labelled rows that a checkpoint is measured on, read from JSON lines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from instar.fsm.errors import InputRefused

BYTES_MAX = 1 << 30


class Labelled(Struct, frozen=True):
    """A request and the answer that is right for it; ``split`` says whether it may be an example or must be asked."""

    text: str
    intent: str
    split: str | None = None


class Compared(Struct, frozen=True):
    """Two texts and how alike people found them; larger is more alike, on any scale."""

    a: str
    b: str
    score: float


Rows = list[Labelled] | list[Compared]


def read_rows(path: Path) -> Rows:
    """Reads a file of rows that are all of one kind; fields that are not needed are passed over.

    Raises:
        InputRefused: the file cannot be read, is empty, or a line is no such row; the message names the line.
    """
    try:
        if path.stat().st_size > BYTES_MAX:
            raise InputRefused(f"{path} is larger than {BYTES_MAX} bytes: split it.")
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise InputRefused(f"{path} cannot be read: {error.strerror}. Give a file of JSON lines.") from error
    kinds = {}
    for number, line in enumerate(lines, 1):
        if line.strip():
            kinds[number] = _kind(line, path, number)
    if not kinds:
        raise InputRefused(f"{path} holds no row. {_FORMS}")
    first, kind = next(iter(kinds.items()))
    for number, other in kinds.items():
        if other is not kind:
            raise InputRefused(f"{path}, line {number}: the rows from line {first} on are of the other kind. {_FORMS}")
    return [_row(lines[number - 1], kind, path, number) for number in kinds]


_FORMS = 'Each line is {"text": …, "intent": …} or {"a": …, "b": …, "score": …}.'


def _kind(line: bytes, path: Path, number: int) -> type[Labelled] | type[Compared]:
    try:
        content = msgspec.json.decode(line, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputRefused(f"{path}, line {number}: no JSON object ({error}). {_FORMS}") from error
    if "intent" in content:
        return Labelled
    if "score" in content:
        return Compared
    raise InputRefused(f"{path}, line {number}: neither an intent nor a score. {_FORMS}")


def _row(line: bytes, kind: Any, path: Path, number: int) -> Any:
    try:
        row = msgspec.json.decode(line, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputRefused(f"{path}, line {number}: {error}. {_FORMS}") from error
    return row


def texts_of(rows: Sequence[Labelled]) -> list[str]:
    """Lists the requests."""
    return [row.text for row in rows]
