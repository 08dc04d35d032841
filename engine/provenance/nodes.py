"""Events and edges of the graph as a reader meets them: described, with what an edge has to add."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from msgspec import Struct

from instar.engine.describe import describe
from instar.fsm.events import EmbeddedItem, OutcomeRewarded, RetrainFlagged, SignalEmbedded
from instar.fsm.record import Recorded
from instar.fsm.words import Seq
from instar.store.clock import iso
from instar.store.reader import PAYLOAD, LogReader

from .graph import Edge, Graph
from .names import NAMES, Kind

_GAP_MAX = 64
"""Positions that are read over rather than asked for anew."""
_SHOWN = 4


class Node(Struct, frozen=True, kw_only=True):
    """An event of the graph. ``kind`` says how it is tied to the subject: content, occasion, background."""

    seq: Seq
    type: str
    time: str
    about: str
    kind: str
    erased: bool


class Link(Struct, frozen=True, kw_only=True):
    """``child`` rests on ``parent``."""

    child: Seq
    parent: Seq
    name: str
    kind: str
    note: str = ""


def records(reader: LogReader, seqs: Collection[Seq]) -> Iterator[tuple[Recorded, bool]]:
    """Reads the events at some positions, in order, by few long reads; and says whether the payload was erased."""
    wanted = sorted(seqs)
    start = 0
    for end in range(1, len(wanted) + 1):
        if end < len(wanted) and wanted[end] - wanted[end - 1] <= _GAP_MAX:
            continue
        meant = set(wanted[start:end])
        for row in reader.rows(wanted[start], wanted[end - 1]):
            if row[0] in meant:
                yield reader.decode(row), row[PAYLOAD] is None
        start = end


def node(record: Recorded, kind: Kind | None, erased: bool) -> Node:
    """Describes an event; ``kind`` is None for the subject itself."""
    return Node(
        seq=record.seq,
        type=type(record.event).__name__,
        time=iso(record.recorded_at_us),
        about=describe(record.event),
        kind=kind.name.lower() if kind else "subject",
        erased=erased,
    )


def link(child: Seq, edge: Edge, notes: dict[Edge, str]) -> Link:
    """Describes an edge."""
    parent, name = edge
    return Link(child=child, parent=parent, name=name, kind=NAMES[name].kind.name.lower(), note=notes.get(edge, ""))


def holds_difference(item: EmbeddedItem) -> bool:
    """Says whether a row of memory was embedded from a difference, which holds lines of the version before too."""
    return item.kind != "unit"


def notes_of(graph: Graph, record: Recorded) -> dict[Edge, str]:
    """Says what edges of an event have to add to their names: a trigger's numbers, a score, which rows."""
    match record.event:
        case RetrainFlagged(triggers=triggers):
            told: dict[Edge, list[str]] = {}
            for trigger in triggers:
                text = f"{trigger.policy} {trigger.value:.2f} (threshold {trigger.threshold:.2f}): {trigger.note}"
                for seq in trigger.events:
                    told.setdefault((seq, "trigger"), []).append(text)
            return {edge: "; ".join(texts) for edge, texts in told.items()}
        case OutcomeRewarded(rewards=rewards):
            return {(reward.seq, "scores"): f"{reward.score:.2f}" for reward in rewards}
        case SignalEmbedded(items=items):
            embedded: dict[Edge, list[int]] = {}
            for number, item in enumerate(items):
                embedded.setdefault((item.seq, "row"), []).append(number)
            return {edge: ", ".join(few(f"memory:{record.seq}.{n}" for n in of)) for edge, of in embedded.items()}
        case _:
            return row_notes(graph, record.seq)


def row_notes(graph: Graph, seq: Seq) -> dict[Edge, str]:
    """Says which rows of a data set rest on each event."""
    found: dict[Edge, list[int]] = {}
    for number, row in enumerate(graph.rows(seq), 1):
        for edge in graph.row_edges([row]):
            found.setdefault(edge, []).append(number)
    return {edge: rows_text(numbers) for edge, numbers in found.items()}


def rows_text(numbers: Sequence[int]) -> str:
    """Names rows of a data set, a few of them."""
    return f"row{'s' if len(numbers) > 1 else ''} {', '.join(few(numbers))}"


def few(values: Iterable[object]) -> list[str]:
    """Names the first few of many, and how many more there are."""
    every = [str(value) for value in values]
    return every if len(every) <= _SHOWN + 1 else [*every[:_SHOWN], f"and {len(every) - _SHOWN} more"]
