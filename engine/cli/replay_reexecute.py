"""``instar replay --reexecute``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

from .anchors import anchor_lines
from .output import emit, plain

if TYPE_CHECKING:
    from instar.engine.bundles.anchor import Anchored
    from instar.engine.reexecution.judgement import Finding, Verdict
    from instar.engine.reexecution.reexecute import Reexecution
    from instar.store.reader import LogReader

VERDICTS: tuple[Verdict, ...] = ("same", "differs", "cannot")
_SHOWN_MAX = 40
_FIELDS_MAX = 4
_VALUE_CHARS = 24


def show(
    reader: LogReader,
    anchored: list[Anchored],
    *,
    effects: Sequence[str],
    first: str | int | None = None,
    to: str | int | None = None,
    as_json: bool,
) -> None:
    """Runs recorded effects again, prints the verdicts, and exits with 4 if any outcome differs."""
    from instar.engine.reexecution.reexecute import reexecute
    from instar.engine.references import resolve

    from .live import Live

    begin = resolve(reader, first) if first is not None else None
    last = resolve(reader, to) if to is not None else None
    with Live() as live:
        found = reexecute(reader, effects, first=begin, to=last, progress=live.report)
    lines = [*_lines(found), *anchor_lines(anchored)]
    emit("replay", _content(found) | {"anchors": len(anchored)}, as_json=as_json, lines=lines)
    if found.count("differs"):
        raise typer.Exit(4)


def _content(found: Reexecution) -> dict[str, Any]:
    return {
        "reexecuted": len(found.findings),
        "head": found.head,
        "first": found.first,
        "last": found.last,
        "diverged": bool(found.count("differs")),
        "effects": {
            effect: {verdict: found.count(verdict, effect) for verdict in VERDICTS} for effect in found.effects
        },
        "findings": plain(found.findings),
    }


def _lines(found: Reexecution) -> list[str]:
    same, differs, cannot = (found.count(verdict) for verdict in VERDICTS)
    lines = [
        f"{len(found.findings)} outcomes{_range(found)} made again: "
        f"{same} the same, {differs} differ, {cannot} cannot be judged here",
        f"  {'effect':<9}{'same':>8}{'differs':>9}{'cannot':>8}",
    ]
    for effect in found.effects:
        counts = [found.count(verdict, effect) for verdict in VERDICTS]
        lines.append(f"  {effect:<9}{counts[0]:>8}{counts[1]:>9}{counts[2]:>8}")
    notable = [one for one in found.findings if one.verdict != "same" or one.why]
    notable.sort(key=lambda one: one.verdict != "differs")
    for one in notable[:_SHOWN_MAX]:
        lines += _told(one)
    if len(notable) > _SHOWN_MAX:
        lines.append(f"… and {len(notable) - _SHOWN_MAX} more; --json lists all")
    return lines


def _range(found: Reexecution) -> str:
    whole = (found.first, found.last) == (1, found.head)
    return "" if whole else f" of events {found.first} to {found.last}"


def _told(one: Finding) -> list[str]:
    lines = [f"event {one.seq}  {one.type}: {one.verdict}{': ' if one.why else ''}{one.why}"]
    for field in one.mismatches[:_FIELDS_MAX]:
        lines.append(f"    {field.field}: recorded {_short(field.recorded)}, made again {_short(field.again)}")
    if len(one.mismatches) > _FIELDS_MAX:
        lines.append(f"    … and {len(one.mismatches) - _FIELDS_MAX} more fields")
    return lines


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _VALUE_CHARS else text[: _VALUE_CHARS - 1] + "…"
