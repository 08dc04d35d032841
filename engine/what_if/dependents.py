"""Which later events rest on a decision that would have been another."""

from __future__ import annotations

from instar.engine.provenance.graph import Graph
from instar.engine.provenance.names import NAMES, Kind
from instar.engine.provenance.walk import forward
from instar.fsm.words import Seq
from instar.store.reader import LogReader

from .findings import Otherwise


def walk(reader: LogReader, last: Seq, otherwise: list[Otherwise]) -> tuple[tuple[Seq, ...], list[str]]:
    """Fills in what rests on each decision, and whether the facts of a decision rest on an earlier one.

    Returns:
        Every event that rests on any of them; and what could not be read.
    """
    affected: set[Seq] = set()
    if not any(one.undone for one in otherwise):
        return (), []
    graph = Graph(reader, last)
    for one in sorted(otherwise, key=lambda one: one.seq):
        one.conditional = one.seq in affected or not affected.isdisjoint(one.facts_at)
        if one.undone:
            found = forward(graph, frozenset(one.undone), _admit)
            one.then = tuple(sorted({*one.undone, *found.ranks}))
            affected.update(one.then)
    return tuple(sorted(affected)), list(graph.gaps)


def _admit(_child: Seq, name: str) -> Kind | None:
    kind = NAMES[name].kind
    return kind if kind > Kind.BACKGROUND else None
