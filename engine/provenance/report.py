"""What came of something, in lines: what is active now, what was made, and the derived events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from .derived import Active, Learned, Remembered, Rows, Written
from .nodes import Link, Node, few, rows_text
from .taint import Taint

FOLDED_FROM: Final = 6
"""So many derived events of one type are folded to the first few."""
_SHOWN: Final = 3
_ABOUT_CHARS: Final = 90


def render(found: Taint, *, everything: bool = False) -> list[str]:
    """Draws what came of something.

    Args:
        found: from ``taint.taint``.
        everything: fold nothing, and list what has the subject in its background too.
    """
    starts = [node for node in found.nodes if node.kind == "subject"]
    about = [] if found.subject.kind == "event" else [found.subject.about]
    lines = [*about, *(f"{node.seq} {node.type}  {_about(node)}".rstrip() for node in starts), ""]
    lines += _active(found, found.active)
    made = [*_made(found, everything)]
    lines += ["", *made] if made else []
    lines += ["", *_events(found, everything)]
    return [*lines, *(f"not known: {gap}" for gap in found.gaps)]


def _active(found: Taint, active: Active) -> list[str]:
    lines = ["active now:"]
    if active.checkpoint is None:
        lines.append("  there is no active checkpoint")
    else:
        rests = _UNREAD if found.unread and active.checkpoint_rests == "occasion" else _CHECKPOINT
        lines.append(f"  the active checkpoint {active.checkpoint[:12]} {rests[active.checkpoint_rests or 'no']}")
    if active.plan is not None:
        lines.append(f"  the plan in force (event {active.plan}) {_PLAN[active.plan_rests or 'no']}")
    spaces = {space.checkpoint for space in found.spaces}
    if active.checkpoint in spaces:
        lines.append("  every vector that a search compares now was made by that checkpoint")
    stand = "row of memory stands" if active.live_rows == 1 else "rows of memory stand"
    lines.append(f"  {active.live_rows or 'no'} live {stand} for it")
    return [*lines, *(f"  {_file(file)}" for file in found.files)]


_TITLES: Final = {
    "content": "made of it",
    "occasion": "that came about through it",
    "background": "with it in the background",
}
_LEARNED: Final = {
    "content": "learned from it",
    "occasion": "came about through it",
    "background": "has it in its background",
}
_CHECKPOINT: Final = {
    "subject": "is it",
    "content": "rests on it: it learned from it",
    "occasion": "rests on it: it came about through it, and learned nothing from it",
    "background": "has it in its background: it learned nothing from it",
    "no": "does not rest on it",
}
_UNREAD: Final = {"occasion": "rests on it: it came about through it; what it learned cannot be read"}
_PLAN: Final = {
    "subject": "is it",
    "content": "rests on it",
    "occasion": "rests on it: it came about through it",
    "background": "has it in its background",
    "no": "does not rest on it",
}


def _file(file: Written) -> str:
    if file.stands:
        return f"{file.path} stands as event {file.last} left it"
    return f"{file.path} was written by event {file.changes[-1]}, and changed again by event {file.last}"


def _made(found: Taint, everything: bool) -> Iterable[str]:
    yield from _few([_taught(rows) for rows in found.datasets], "data sets", everything)
    only_background = all(one.kind == "background" for one in found.checkpoints)
    for kind in _TITLES:
        if kind == "background" and not (everything or only_background):
            continue
        unread = "; what it learned cannot be read" if found.unread and kind != "content" else ""
        learned = [one for one in found.checkpoints if one.kind == kind]
        learned.sort(key=lambda one: (not one.active, one.verdict != "promoted"))
        yield from _few([f"{_learned(one)}{unread}" for one in learned], "checkpoints", everything)
    for space in found.spaces:
        where = ", ".join(few(space.events))
        yield f"vectors     {space.rows} in the space of {space.checkpoint[:12]}, by events {where}"
    yield from _few([_remembered(rows) for rows in found.memory], "events with rows of memory", everything)


def _few(lines: Sequence[str], what: str, everything: bool) -> list[str]:
    """Folds many lines to the first few."""
    if everything or len(lines) < FOLDED_FROM:
        return [*lines]
    return [*lines[:_SHOWN], f"            … {len(lines) - _SHOWN} more {what}, --all shows them"]


def _taught(rows: Rows) -> str:
    taught = f"{rows_text(rows.teaches)} to learn from" if rows.teaches else ""
    judged = f"{rows_text(rows.judges)} to judge by" if rows.judges else ""
    return f"data set    {rows.dataset[:12]} (event {rows.seq}): {'; '.join(filter(None, (taught, judged)))}"


def _remembered(rows: Remembered) -> str:
    items = ", ".join(few([f"memory:{rows.seq}.{number}" for number in rows.items]))
    return f"memory      {items}{'' if rows.live else ' (not searched now)'}"


def _learned(learned: Learned) -> str:
    where = f"event {learned.seq}, {learned.verdict}{', active' if learned.active else ''}"
    return f"checkpoint  {learned.checkpoint[:12]} ({where}): {_LEARNED[learned.kind]}"


def _events(found: Taint, everything: bool) -> list[str]:
    kinds = Counter(node.kind for node in found.nodes)
    over: dict[int, list[Link]] = {}
    for edge in found.edges:
        over.setdefault(edge.child, []).append(edge)
    lines: list[str] = []
    for kind, title in _TITLES.items():
        if not kinds[kind]:
            continue
        hidden = kind == "background" and not everything and len(lines) > 0
        lines.append(f"{kinds[kind]} event{'' if kinds[kind] == 1 else 's'} {title}{', --all shows them' * hidden}")
        if not hidden:
            lines += _alike([node for node in found.nodes if node.kind == kind], over, everything)
    return lines or ["nothing was derived from it"]


def _alike(nodes: Sequence[Node], over: Mapping[int, Sequence[Link]], everything: bool) -> Iterable[str]:
    """Draws events in order, and of many of one type the first few."""
    counts, told = Counter(node.type for node in nodes), Counter[str]()
    for node in nodes:
        told[node.type] += 1
        if everything or counts[node.type] < FOLDED_FROM or told[node.type] <= _SHOWN:
            yield f"  {node.seq:>6} {node.type:<18} {_over(over[node.seq]):<34}  {_about(node)}".rstrip()
        elif told[node.type] == _SHOWN + 1:
            yield f"         … {counts[node.type] - _SHOWN} more {node.type}, --all shows them"


def _over(edges: Sequence[Link]) -> str:
    """Tells over which edges an event was reached."""
    names: dict[str, list[int]] = {}
    for edge in edges:
        names.setdefault(edge.name, []).append(edge.parent)
    return "; ".join(f"{name} {', '.join(few(parents))}" for name, parents in names.items())


def _about(node: Node) -> str:
    about = node.about if len(node.about) <= _ABOUT_CHARS else node.about[: _ABOUT_CHARS - 1] + "…"
    return about + (" (erased)" if node.erased else "")
