"""Feedback from outside, as rows of JSON: checked before it becomes a fact."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from numbers import Real
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from instar.fsm.errors import InputRefused
from instar.fsm.events import FeedbackReceived, InputSkipped

from .redact import redact

TEXT_CHARS_MAX = 100_000
_NUMBERS = "confidence", "reward"

Name = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]+\Z")]
"""What a kind of task, or a source, may be called."""


class FeedbackRow(Struct, forbid_unknown_fields=True):
    """One row as ``instar feedback --jsonl`` takes it. ``confidence`` and ``reward`` lie in 0..1."""

    task_type: Name
    input: str
    output: str = ""
    reference: str | None = None
    outcome: Literal["pass", "fail", "skip"] = "pass"
    confidence: float | None = None
    reward: float | None = None
    group: str | None = None
    source: Name = "agent"


def check_feedback(row: dict[str, Any] | FeedbackRow) -> FeedbackReceived:
    """Turns a row into the event, or says what is wrong with it.

    Raises:
        InputRefused: a field is missing, unknown, of another type or out of its range.
    """
    try:
        checked = row if isinstance(row, FeedbackRow) else msgspec.convert(_plain_numbers(row), FeedbackRow)
    except (msgspec.ValidationError, TypeError, UnicodeError) as error:
        raise InputRefused(
            f"feedback refused: {error}. A row needs task_type and input, and an outcome is pass, fail or skip; see "
            "`instar feedback -h`."
        ) from error
    for name in _NUMBERS:
        value = getattr(checked, name)
        if value is not None and not (math.isfinite(value) and 0.0 <= value <= 1.0):
            raise InputRefused(f"feedback refused: {name} is {value}; it must be a number in 0..1")
    if not checked.input.strip():
        raise InputRefused("feedback refused: input is empty; say what was asked of the agent")
    fields = msgspec.structs.asdict(checked)
    for name in ("task_type", "input", "output", "reference", "group", "source"):
        if fields[name] is not None:
            fields[name] = recordable(fields[name])
    return FeedbackReceived(**fields)


def _plain_numbers(row: dict[str, Any]) -> dict[str, Any]:
    """Gives a row whose numbers are Python's: what says how sure it is often gives one of numpy's."""
    for name in _NUMBERS:
        value = row.get(name)
        if value is not None and type(value) not in {int, float, bool} and isinstance(value, Real):
            row = {**row, name: float(value)}
    return row


def check_rows(rows: Iterable[Mapping[str, Any]]) -> list[FeedbackReceived]:
    """Turns rows into events, or says which one is wrong; the first is row 0.

    Raises:
        InputRefused: one is no mapping, or cannot be feedback.
    """
    if not isinstance(rows, Iterable):
        raise InputRefused(f"feedback refused: {type(rows).__name__} is no rows; give an iterable of mappings")
    events = []
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise InputRefused(f"row {number}: feedback refused: {type(row).__name__} is no mapping of a row's fields")
        try:
            events.append(check_feedback(dict(row)))
        except InputRefused as error:
            raise InputRefused(f"row {number}: {error}") from error
    return events


def recordable(text: str) -> str:
    """Keeps a text recordable: a secret, lone surrogates (no UTF-8) and a huge text have no place in an event."""
    text = redact(text.encode("utf-8", "replace").decode())
    if len(text) > TEXT_CHARS_MAX:
        return f"{text[:TEXT_CHARS_MAX]}… [{len(text) - TEXT_CHARS_MAX} characters left out]"
    return text


def read_jsonl(lines: Iterable[bytes], source: str) -> Iterator[FeedbackReceived | InputSkipped]:
    """Reads rows, one a line; a malformed one becomes a recorded, skipped item with its line number and reason."""
    named = recordable(source)
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            content = msgspec.json.decode(line)
            if not isinstance(content, dict):
                raise InputRefused("feedback refused: a row must be a JSON object")
            yield check_feedback(content)
        except (msgspec.MsgspecError, UnicodeDecodeError, InputRefused) as error:
            excerpt = redact(line.decode("utf-8", "replace"))[:200].strip()
            yield InputSkipped(
                source="feedback", subject=f"{named}:{number}", reason=recordable(str(error)), excerpt=excerpt
            )
