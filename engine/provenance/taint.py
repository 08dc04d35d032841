"""Taint: all that was derived from something, walked forward, and whether what is active now rests on it."""

from __future__ import annotations

from msgspec import Struct

from instar.fsm.events import (
    DatasetGenerated,
    MemoryReembedded,
    OutcomeRewarded,
    RetrainFlagged,
    SignalEmbedded,
)
from instar.fsm.words import Seq
from instar.store.reader import LogReader

from .derived import Active, Derived, Learned, Remembered, Rows, Space, Written
from .graph import Graph
from .names import NAMES, Kind
from .nodes import Link, Node, link, node, notes_of, records
from .subject import Subject, find_subject
from .walk import Admit, forward

_OF_A_CHECKPOINT = frozenset({"weights", "base", "space", "active since", "holds checkpoint"})
"""Edges to the first event that mean its checkpoint, and not its policy or its tree."""


class Taint(Struct, frozen=True, kw_only=True):
    """All that was derived from a subject; ``gaps`` says what could not be read.

    ``unread`` are the events whose data sets are gone: a checkpoint may have learned more than is known.
    """

    subject: Subject
    active: Active
    checkpoints: list[Learned]
    datasets: list[Rows]
    memory: list[Remembered]
    spaces: list[Space]
    files: list[Written]
    nodes: list[Node]
    edges: list[Link]
    gaps: list[str]
    unread: tuple[Seq, ...]


def taint(reader: LogReader, reference: str | int) -> Taint:
    """Says what was derived from something.

    Args:
        reader: the log.
        reference: see ``find_subject``.

    Raises:
        ConfigError: it names nothing in this log, or more than one thing.
    """
    subject = find_subject(reader, reference)
    graph = Graph(reader, reader.head())
    way = forward(graph, frozenset(subject.starts), _admit(graph, subject))
    found = Derived(graph, subject, way.ranks, reader.state_at(graph.last))
    nodes: list[Node] = []
    edges: list[Link] = []
    for record, erased in records(reader, {*subject.starts, *way.ranks}):
        nodes.append(node(record, way.ranks.get(record.seq), erased))
        found.note(record)
        if record.seq in way.ranks:
            notes = notes_of(graph, record)
            edges += [link(record.seq, edge, notes) for edge in way.edges[record.seq]]
    return Taint(
        subject=subject,
        active=found.active(),
        checkpoints=list(found.checkpoints.values()),
        datasets=found.datasets,
        memory=found.memory,
        spaces=list(found.spaces.values()),
        files=found.files(),
        nodes=nodes,
        edges=edges,
        gaps=list(graph.gaps),
        unread=tuple(sorted(graph.unread)),
    )


def _admit(graph: Graph, subject: Subject) -> Admit:
    """Says which edges to the subject's own events mean the subject, which may be a part of what the event holds."""
    if subject.row is not None:
        # A held-out row changes no weight: it is what the checkpoint was measured on.
        kind = Kind.CONTENT if subject.train else Kind.OCCASION
        return lambda _, name: kind if name == "dataset" else None
    if subject.item is not None:
        uses = _uses_of_row(graph, subject)
        return lambda child, name: NAMES[name].kind if (child, name) in uses else None
    if subject.kind == "checkpoint" and subject.seq == 1:
        return lambda _, name: NAMES[name].kind if name in _OF_A_CHECKPOINT else None
    return lambda _, name: NAMES[name].kind


def _uses_of_row(graph: Graph, subject: Subject) -> set[tuple[Seq, str]]:
    """Finds the events that used one row of memory, and over which edge."""
    seq, number = subject.seq, subject.item
    embedded = graph.reader.get(seq).event
    assert isinstance(embedded, SignalEmbedded)
    assert number is not None
    item = embedded.items[number]
    uses: set[tuple[Seq, str]] = set()
    for child, name in graph.children(seq):
        match graph.reader.get(child).event:
            case MemoryReembedded(rows=rows):
                used = (seq, number) in rows
            case RetrainFlagged(triggers=triggers):
                used = any(item.seq in trigger.events for trigger in triggers)
            case OutcomeRewarded(rewards=rewards):
                used = any(item.seq == reward.seq for reward in rewards)
            case DatasetGenerated():
                used = any(seq in row.events and item.seq in row.events for row in graph.rows(child))
            case SignalEmbedded(items=items):
                shifts = graph.links.units.shifts.get(child, {})
                used = any(s.before == seq and items[place].unit == item.unit for place, s in shifts.items())
            case _:
                used = False
        if used:
            uses.add((child, name))
    return uses
