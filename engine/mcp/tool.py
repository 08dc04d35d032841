"""What a tool is: a struct of its arguments that calls a verb of the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta, Struct

TEXT_CHARS_MAX = 100_000
"""The longest text that a tool takes; as for feedback."""
POSITION_MAX = 10**18 - 1

Position = Annotated[int, Meta(ge=1, le=POSITION_MAX)]
Reference = Annotated[str, Meta(min_length=1, max_length=1000)] | Position
"""A reference as a text, or a position as a number."""
Text = Annotated[str, Meta(max_length=TEXT_CHARS_MAX)]
Names = Annotated[list[Annotated[str, Meta(max_length=1000)]], Meta(max_length=100)]


class Tool(Struct, forbid_unknown_fields=True, kw_only=True):
    """One call of a tool: its arguments. The docstring of a tool is what a client is told of it.

    Attributes:
        changes: it records or changes something.
        destroys: it may take something away or put another in its place, be it for good or not.
        repeatable: the same call again changes nothing further.
        outside: it may reach beyond the workspace.
        apart: it runs in a process of its own, since it takes long, needs the model, or has to be ended.
        reports: that process reports its progress.
    """

    changes: ClassVar[bool] = False
    destroys: ClassVar[bool] = False
    repeatable: ClassVar[bool] = True
    outside: ClassVar[bool] = False
    apart: ClassVar[bool] = False
    reports: ClassVar[bool] = False

    def call(self, root: Path) -> None:
        """Calls the verb for a workspace; what it would print goes to whoever asks (``cli/asked.py``)."""
        raise NotImplementedError


def name_of(kind: type[Tool]) -> str:
    """Gives the name of a tool: that of the verb."""
    return kind.__name__.lower()


def description_of(kind: type[Tool]) -> str:
    """Gives what a client is told of a tool."""
    return " ".join((kind.__doc__ or "").split())


def schema_of(kind: type[Tool]) -> dict[str, Any]:
    """Gives the JSON Schema of a tool's arguments."""
    _, known = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    schema: dict[str, Any] = known.pop(kind.__name__)
    for told_elsewhere in ("title", "description"):
        schema.pop(told_elsewhere, None)
    return schema | ({"$defs": known} if known else {})
