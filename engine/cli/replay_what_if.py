"""``instar replay --what-if``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from .anchors import anchor_lines
from .output import emit, plain

if TYPE_CHECKING:
    from instar.engine.bundles.anchor import Anchored
    from instar.engine.what_if import Otherwise, WhatIf
    from instar.store.reader import LogReader

_WIDTHS = (7, 11, 46, 46)
_FACTS_CHARS = 108


def show(reader: LogReader, anchored: list[Anchored], *, policy: dict[str, Any], to: str | None, as_json: bool) -> None:
    """Prints the decisions that would have been others under another policy."""
    from instar.engine.references import resolve
    from instar.engine.what_if import what_if

    found = what_if(reader, policy, to=resolve(reader, to) if to is not None else None)
    lines = () if as_json else [*_lines(found), *anchor_lines(anchored)]
    emit("replay", _content(found) | {"anchors": len(anchored)}, as_json=as_json, lines=lines)


def _content(found: WhatIf) -> dict[str, Any]:
    content: dict[str, Any] = plain(found)
    del content["state"]
    return content | {"otherwise": [plain(one) for one in found.otherwise], "affected": list(found.affected)}


def _lines(found: WhatIf) -> Iterator[str]:
    if found.otherwise:
        yield _line("event", "decision", "was", "would have been") + "events that rest on it"
        for one in found.otherwise:
            yield _line(str(one.seq), one.decision, one.was, one.would_be) + _resting(one)
            yield _line("", "", "", "").rstrip() + f"{'':<{sum(_WIDTHS[:2]) + 4}}{_facts(one)}"
        yield ""
    yield from _summary(found)


def _line(*cells: str) -> str:
    seq, *others = (
        shorten(cell, width, placeholder="…").ljust(width) for cell, width in zip(cells, _WIDTHS, strict=True)
    )
    return "  ".join([f"{seq.strip():>{_WIDTHS[0]}}", *others, ""])


def _resting(one: Otherwise) -> str:
    told = f"{len(one.then)}: {_spans(one.then)}" if one.then else "none"
    return f"{told}{', then a run' if one.to_run else ''}"


def _facts(one: Otherwise) -> str:
    told = f"on {one.facts}" + (f" (events {_spans(one.facts_at)})" if one.facts_at else "")
    told = shorten(told, _FACTS_CHARS, placeholder="…")
    return f"{told}; these rest on an earlier decision that differs" if one.conditional else told


def _summary(found: WhatIf) -> Iterator[str]:
    for key, (recorded, other) in found.policy.items():
        yield f"{key}: {_value(other)} in place of {_value(recorded)}"
    total = sum(found.decisions.values())
    kinds = ", ".join(f"{count} {kind}" for kind, count in found.decisions.items())
    yield f"{len(found.otherwise)} of {total} decisions would have been others ({kinds})"
    if found.affected:
        share = f"{len(found.affected)} of {found.events} events"
        yield f"{share} rest on them: {_spans(found.affected)}"
    for what, count in found.to_run.items():
        yield f"not known without a run: {what} ({count} ×)"
    for name, (recorded, other) in found.standings.items():
        yield f"mean reward of {name} at the end: {other:.3f} in place of {recorded:.3f}"
    for gap in found.gaps:
        yield f"could not be read: {gap}"


def _value(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else f"{value:g}"


def _spans(seqs: Iterable[int], most: int = 6) -> str:
    """Writes positions as spans: ``3–5, 9``."""
    spans: list[list[int]] = []
    for seq in seqs:
        if spans and seq == spans[-1][1] + 1:
            spans[-1][1] = seq
        else:
            spans.append([seq, seq])
    told = [str(first) if first == last else f"{first}–{last}" for first, last in spans[:most]]
    return ", ".join([*told, "…"] if len(spans) > most else told)
