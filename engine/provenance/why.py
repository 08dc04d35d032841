"""Why: all that something rests on, walked back to the signals."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from instar.fsm.events import SignalEmbedded
from instar.fsm.record import Recorded
from instar.fsm.words import Seq
from instar.store.clock import iso
from instar.store.reader import LogReader

from .graph import Edge, Graph
from .names import Kind
from .nodes import Link, Node, holds_difference, link, node, notes_of, records
from .subject import Subject, find_subject
from .walk import Back, back, taken

SIGNALS: Final = frozenset({"ChangeObserved", "FeedbackReceived", "TaskQueued"})
"""Facts from outside, at which every way back ends."""


class Trace(Struct, frozen=True, kw_only=True):
    """The way back from a subject, and the subject's own edges."""

    graph: Graph
    subject: Subject
    edges: tuple[Edge, ...]
    back: Back

    def edges_of(self, seq: Seq) -> list[Edge]:
        """Lists the edges of an event as this way back takes them."""
        if seq == self.subject.seq:
            return list(self.edges)
        return list(taken(self.graph, seq, frame_only=seq in self.back.frames))

    def notes_of(self, record: Recorded) -> dict[Edge, str]:
        """Says what the edges of an event have to add; one row of a data set need not be told which rows it is."""
        whole = record.seq != self.subject.seq or self.subject.row is None
        return notes_of(self.graph, record) if whole else {}


class Summary(Struct, frozen=True, kw_only=True):
    """How much a subject rests on, itself and its background apart; ``content`` counts what it is made of."""

    events: int
    signals: int
    content: int
    first: str | None
    last: str | None


class Why(Struct, frozen=True, kw_only=True):
    """All that a subject rests on, and over which edges; ``gaps`` says what could not be read."""

    subject: Subject
    summary: Summary
    nodes: list[Node]
    edges: list[Link]
    gaps: list[str]


def trace(reader: LogReader, reference: str | int) -> Trace:
    """Walks back from what a reference names.

    Raises:
        ConfigError: it names nothing in this log, or more than one thing.
    """
    subject = find_subject(reader, reference)
    graph = Graph(reader, subject.seq)
    edges = tuple(_own_edges(graph, subject))
    return Trace(graph=graph, subject=subject, edges=edges, back=back(graph, subject.seq, edges))


def why(reader: LogReader, reference: str | int) -> Why:
    """Says what something rests on: whole, nothing folded.

    Args:
        reader: the log.
        reference: see ``find_subject``.

    Raises:
        ConfigError: it names nothing in this log, or more than one thing.
    """
    way = trace(reader, reference)
    nodes: list[Node] = []
    edges: list[Link] = []
    for record, erased in records(reader, {way.subject.seq, *way.back.ranks}):
        kind = way.back.ranks.get(record.seq)
        nodes.append(node(record, kind, erased))
        if kind != Kind.BACKGROUND and (own := way.edges_of(record.seq)):
            notes = way.notes_of(record)
            edges += [link(record.seq, edge, notes) for edge in own]
    return Why(subject=way.subject, summary=summarize(way), nodes=nodes, edges=edges, gaps=list(way.graph.gaps))


def summarize(way: Trace) -> Summary:
    """Counts what a subject rests on, and says from when to when it was recorded."""
    core = sorted(seq for seq, kind in way.back.ranks.items() if kind > Kind.BACKGROUND)
    reader = way.graph.reader
    return Summary(
        events=len(core),
        signals=sum(way.graph.type_of(seq) in SIGNALS for seq in core),
        content=sum(way.back.ranks[seq] == Kind.CONTENT for seq in core),
        first=iso(reader.get(core[0]).recorded_at_us) if core else None,
        last=iso(reader.get(core[-1]).recorded_at_us) if core else None,
    )


def _own_edges(graph: Graph, subject: Subject) -> list[Edge]:
    """Gives the edges of the subject itself: of one row, only what this row rests on."""
    if subject.row is not None:
        return graph.row_edges([graph.rows(subject.seq)[subject.row - 1]])
    if subject.item is None:
        return list(graph.edges(subject.seq))
    event = graph.reader.get(subject.seq).event
    assert isinstance(event, SignalEmbedded)
    shift = graph.links.units.shifts.get(subject.seq, {}).get(subject.item)
    item = event.items[subject.item]
    own = {(item.seq, "row")}
    if shift:
        own |= {(shift.before, "drift against"), (shift.before_signal, "shift from")}
    kept: list[Edge] = []
    if holds_difference(item) and item.seq in graph.links.before:
        kept.append((graph.links.before[item.seq], "against"))
    for parent, name in graph.edges(subject.seq):
        if name == "embeds":
            kept.append((parent, "difference in"))
        elif name in ("space", "active since") or (parent, name) in own:
            kept.append((parent, name))
    return kept
