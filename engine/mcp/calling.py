"""Calls a tool: its verb runs here, and what it gives or how it fails becomes the envelope that ``--json`` prints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import typer

from instar.engine.cli.asked import Asked, asking
from instar.engine.cli.failures import Failure, failure_of
from instar.engine.cli.output import envelope, envelope_of_error
from instar.fsm.errors import ConfigError

from .changing import CHANGING
from .reading import READING, Log
from .tool import Tool, name_of

ACTOR = "mcp"
"""Who acts, as the log records it."""
TOOLS: dict[str, type[Tool]] = {name_of(kind): kind for kind in (*READING, *CHANGING)}

Envelope = dict[str, Any]


def offered(*, may_change: bool) -> dict[str, type[Tool]]:
    """Gives the tools that a server offers, by name."""
    return {name: kind for name, kind in TOOLS.items() if may_change or not kind.changes}


def read_call(name: str, arguments: Mapping[str, Any], *, may_change: bool) -> Tool:
    """Reads a call.

    Raises:
        ConfigError: there is no such tool, it changes something and that is not allowed, or an argument cannot be used.
    """
    known = offered(may_change=may_change)
    if name not in known:
        if name in TOOLS:
            raise ConfigError(f"{name} changes the workspace, and this server only reads: start it by --allow-changes")
        raise ConfigError(f"there is no tool {name[:100]!r}. Known: {', '.join(known)}.")
    try:
        return msgspec.convert(dict(arguments), known[name])
    except (msgspec.ValidationError, ValueError, OverflowError) as error:
        raise ConfigError(f"{name} refused its arguments: {error}") from error


def call(tool: Tool, root: Path, *, may_change: bool) -> Envelope:
    """Calls a tool; no error gets past it.

    The envelope holds ``exit_code`` too where a verb that gave its result ends with another than 0, ``notes`` where it
    says something to people, ``patch`` where there is one, and ``next`` where a list goes on.
    """
    with asking(ACTOR, may_change=may_change) as asked:
        try:
            tool.call(root)
        except typer.Exit as end:
            return _given(tool, asked, end.exit_code)
        except Exception as error:
            return failed(failure_of(error, root), asked.notes)
    return _given(tool, asked, 0)


def failed(failure: Failure, notes: list[str] | None = None) -> Envelope:
    """Gives the envelope of a call that failed."""
    whole = envelope_of_error(failure.kind, failure.message, failure.exit_code, failure.details)
    return whole | ({"notes": notes} if notes else {})


def _given(tool: Tool, asked: Asked, exit_code: int) -> Envelope:
    whole = envelope(asked.verb, asked.content)
    if exit_code:
        whole["exit_code"] = exit_code
    if asked.notes:
        whole["notes"] = asked.notes
    if asked.patch:
        whole["patch"] = asked.patch.decode("utf-8", "backslashreplace")
    if isinstance(tool, Log) and tool.path is None and asked.content:
        whole["next"] = {"before": asked.content[0]["seq"], "after": asked.content[-1]["seq"]}
    return whole
