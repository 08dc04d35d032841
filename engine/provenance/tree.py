"""A way back as a tree of lines: each event once, many alike folded, the background in brackets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from instar.fsm.words import Seq

from .graph import Edge
from .names import NAMES, Kind
from .nodes import Node, node, records
from .why import Summary, Trace, summarize

FOLDED_FROM: Final = 6
"""So many events alike are folded to the first few."""
_SHOWN: Final = 3
_ABOUT_CHARS: Final = 96
_ORDER: Final = {name: number for number, name in enumerate(NAMES)}
_WITH_NOTES: Final = frozenset({"RetrainFlagged", "OutcomeRewarded", "DatasetGenerated"})
"""The types whose edges have something to add that a tree shows."""


class _Line(Struct, frozen=True):
    """One line: what stands before it, the edge, the event if one is drawn, what follows."""

    branch: str
    label: str
    seq: Seq | None = None
    tail: str = ""


class _Group(Struct):
    """Edges of one event that are told alike: over the same names, to events of one type."""

    names: tuple[str, ...]
    type: str
    parents: list[tuple[Seq, str]]
    """Each event, and what its edge adds."""


def render(way: Trace, *, depth: int | None = None, everything: bool = False) -> list[str]:
    """Draws a way back.

    Args:
        way: from ``why.trace``.
        depth: how many levels below the subject; all by default.
        everything: fold nothing.
    """
    lines = list(_Tree(way, depth, everything).lines())
    reader, ranks = way.graph.reader, way.back.ranks
    seqs = {line.seq for line in lines if line.seq is not None} | {way.subject.seq}
    nodes = {record.seq: node(record, ranks.get(record.seq), erased) for record, erased in records(reader, seqs)}
    root = nodes[way.subject.seq]
    about = [] if way.subject.kind == "event" else [way.subject.about]
    drawn = [*about, f"{_event(root)}{_background(way, root.seq)}"]
    for line in lines:
        event = f"{line.label} · {_event(nodes[line.seq])}" if line.seq is not None else line.label
        drawn.append(f"{line.branch}{event}{line.tail}")
    return [*drawn, "", _summary(summarize(way)), *(f"not known: {gap}" for gap in way.graph.gaps)]


def _event(node: Node) -> str:
    about = node.about if len(node.about) <= _ABOUT_CHARS else node.about[: _ABOUT_CHARS - 1] + "…"
    return f"{node.seq} {node.type}  {about}".rstrip() + (" (erased)" if node.erased else "")


def _summary(summary: Summary) -> str:
    if not summary.events:
        return "it rests on no earlier event: it came from outside"
    first, last = (f"{time[:19]}Z" for time in (summary.first or "", summary.last or ""))
    return (
        f"rests on {summary.events} event{'' if summary.events == 1 else 's'}, {summary.signals} of them from outside, "
        f"from {first} to {last}; it is made of {summary.content} of them, the others led to it"
    )


def _background(way: Trace, seq: Seq) -> str:
    found = [f"{name} {parent}" for parent, name in way.edges_of(seq) if NAMES[name].kind == Kind.BACKGROUND]
    return f"  ({', '.join(found)})" if found else ""


class _Tree:
    """Walks from the subject down. An event is drawn where it stands nearest to the subject, elsewhere pointed to."""

    def __init__(self, way: Trace, depth: int | None, everything: bool) -> None:
        self._way = way
        self._depth = depth
        self._everything = everything
        self._drawn = {way.subject.seq}
        self._folded: set[Seq] = set()

    def lines(self) -> Iterator[_Line]:
        """Gives the lines below the subject, from the first to the last."""
        open_at: list[tuple[str, Iterator[tuple[_Line, bool]]]] = [("", self._below(self._way.subject.seq))]
        while open_at:
            before, rest = open_at[-1]
            found = next(rest, None)
            if found is None:
                open_at.pop()
                continue
            line, last = found
            branch = before + ("└─ " if last else "├─ ")
            if line.seq is None:
                yield replace(line, branch=branch)
                continue
            cut = self._depth is not None and len(open_at) >= self._depth
            tail = line.tail + _background(self._way, line.seq) + (self._cut(line.seq, len(open_at)) if cut else "")
            yield replace(line, branch=branch, tail=tail)
            if not cut:
                open_at.append((before + ("   " if last else "│  "), self._below(line.seq)))

    def _cut(self, seq: Seq, depth: int) -> str:
        below = len(self._over(seq))
        return f"  … {below} below, --depth {depth + 1} shows them" if below else ""

    def _below(self, seq: Seq) -> Iterator[tuple[_Line, bool]]:
        """Gives the lines right below an event, each when its turn comes, and whether it is the last."""
        groups = self._groups(seq)
        for number, group in enumerate(groups):
            lines = self._alike(seq, group)
            for place, line in enumerate(lines):
                yield line, number == len(groups) - 1 and place == len(lines) - 1

    def _over(self, seq: Seq) -> dict[Seq, tuple[str, ...]]:
        """Gives what an event rests on, but for its background, and over which edges."""
        names: dict[Seq, list[str]] = {}
        for parent, name in self._way.edges_of(seq):
            if NAMES[name].kind > Kind.BACKGROUND:
                names.setdefault(parent, []).append(name)
        return {parent: tuple(sorted(over, key=_ORDER.__getitem__)) for parent, over in names.items()}

    def _groups(self, seq: Seq) -> list[_Group]:
        notes = self._notes(seq)
        groups: dict[tuple[object, ...], _Group] = {}
        for parent, names in self._over(seq).items():
            note = "; ".join(dict.fromkeys(filter(None, (notes.get((parent, name)) for name in names))))
            kind = self._way.graph.type_of(parent)
            key = (names, kind, note if "trigger" in names else "")
            groups.setdefault(key, _Group(names, kind, [])).parents.append((parent, note))
        for group in groups.values():
            group.parents.sort()
        return sorted(groups.values(), key=lambda group: ([_ORDER[name] for name in group.names], group.parents))

    def _notes(self, seq: Seq) -> dict[Edge, str]:
        graph = self._way.graph
        return self._way.notes_of(graph.reader.get(seq)) if graph.type_of(seq) in _WITH_NOTES else {}

    def _alike(self, seq: Seq, group: _Group) -> list[_Line]:
        label = ", ".join(group.names)
        here = [parent for parent in group.parents if self._way.back.homes[parent[0]] == seq]
        if self._everything:
            return [self._line(label, parent, parent in here, group.type) for parent in group.parents]
        if len(group.parents) == 1:
            parent = group.parents[0]
            return [self._line(label, parent, bool(here) or parent[0] in self._folded, group.type)]
        elsewhere = [parent for parent in group.parents if parent not in here]
        lines = [_Line("", f"{label} · {self._pointer(elsewhere, group.type)}")] if elsewhere else []
        shown = here if len(here) < FOLDED_FROM else here[:_SHOWN]
        told = elsewhere[0][1] if elsewhere and len({note for _, note in elsewhere}) == 1 else ""
        for seq_here, note in shown:
            lines.append(self._line(label, (seq_here, "" if note == told else note), True, group.type))
            told = note
        if len(here) > len(shown):
            self._folded.update(parent for parent, _ in here[_SHOWN:])
            lines.append(_Line("", f"{label} · … {len(here) - _SHOWN} more {group.type}, --all shows them"))
        return lines

    def _line(self, label: str, parent: tuple[Seq, str], here: bool, kind: str) -> _Line:
        """Draws an event, or points to where it stands."""
        seq, note = parent
        if not here or seq in self._drawn:
            return _Line("", f"{label} · {self._pointer([parent], kind)}")
        self._drawn.add(seq)
        return _Line("", label, seq, f"  [{note}]" if note else "")

    def _pointer(self, parents: Sequence[tuple[Seq, str]], kind: str) -> str:
        """Points to events that are drawn or counted elsewhere."""
        seqs = [seq for seq, _ in parents]
        notes = {note for _, note in parents}
        note = f"  [{next(iter(notes))}]" if len(notes) == 1 and "" not in notes else ""
        arrow = "↑" if all(seq in self._drawn or seq in self._folded for seq in seqs) else "↓"
        if len(seqs) == 1:
            return f"{arrow} see {seqs[0]} {kind}{note}"
        return f"{arrow} see {seqs[0]} to {seqs[-1]}, {len(seqs)} {kind}{note}"
