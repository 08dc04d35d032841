"""The ways back and forward over the graph: what something rests on, what rests on it, and how closely.

An edge leads to an earlier event, so a walk in the order of the log meets each event after all that leads to it, and
one look at each edge is enough. How closely two events are tied is the weakest edge of the strongest way between them.
The background is one step at the far end of a way back, so it is the first step of a way forward: both find the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from heapq import heappop, heappush

from msgspec import Struct

from instar.fsm.words import Seq

from .graph import Edge, Graph
from .names import FRAMED, NAMES, Kind

Admit = Callable[[Seq, str], Kind | None]


class Back(Struct, frozen=True):
    """A way back: what was found and how closely it is tied.

    ``frames`` are the events of which no more than the frame is meant. ``homes`` gives for each event the later one
    that is nearest to the start, under which a tree shows it.
    """

    ranks: dict[Seq, Kind]
    frames: frozenset[Seq]
    homes: dict[Seq, Seq]


def taken(graph: Graph, seq: Seq, *, frame_only: bool) -> Iterable[Edge]:
    """Gives the edges of an event, or of its frame alone."""
    if frame_only and graph.type_of(seq) in FRAMED:
        return (edge for edge in graph.edges(seq) if not NAMES[edge[1]].member)
    return graph.edges(seq)


def back(graph: Graph, start: Seq, edges: Iterable[Edge]) -> Back:
    """Finds all that something rests on.

    Args:
        graph: the log up to there.
        start: the event that it is or lies in.
        edges: its own edges.
    """
    walk = _Back(graph, start)
    walk.reach(start, edges, Kind.CONTENT, Kind.CONTENT)
    walk.run()
    ranks = {**dict.fromkeys(walk.background, Kind.BACKGROUND), **walk.frame}
    frames = frozenset(seq for seq in walk.frame if seq not in walk.whole)
    return Back(ranks, frames, walk.homes)


class _Back:
    def __init__(self, graph: Graph, start: Seq) -> None:
        self.graph = graph
        self.frame: dict[Seq, Kind] = {}
        self.whole: dict[Seq, Kind] = {}
        self.homes: dict[Seq, Seq] = {}
        self.background: set[Seq] = set()
        self._depths = {start: 0}
        self._queue: list[int] = []

    def run(self) -> None:
        """Takes the events found from the latest to the earliest."""
        while self._queue:
            seq = Seq(-heappop(self._queue))
            whole = self.whole.get(seq)
            self.reach(seq, taken(self.graph, seq, frame_only=whole is None), self.frame[seq], whole)

    def reach(self, child: Seq, edges: Iterable[Edge], frame: Kind, whole: Kind | None) -> None:
        """Follows edges of an event, as closely as its frame and all of it are tied."""
        depth = self._depths[child] + 1
        for parent, name in edges:
            tie = NAMES[name]
            if tie.kind == Kind.BACKGROUND:
                self.background.add(parent)
                continue
            if depth < self._depths.get(parent, depth + 1):
                self._depths[parent], self.homes[parent] = depth, child
            if parent not in self.frame:
                heappush(self._queue, -parent)
            limit = whole if tie.member and whole is not None else frame
            _raise(self.frame, parent, min(limit, tie.kind))
            if tie.to == "all" or self.graph.type_of(parent) not in FRAMED:
                _raise(self.whole, parent, min(limit, tie.kind))
            elif tie.to == "same" and whole is not None:
                _raise(self.whole, parent, min(whole, tie.kind))


class Forward(Struct, frozen=True):
    """A way forward: what was found, how closely it is tied, and over which edges."""

    ranks: dict[Seq, Kind]
    edges: dict[Seq, list[Edge]]


def forward(graph: Graph, starts: Collection[Seq], admit: Admit) -> Forward:
    """Finds all that rests on some events.

    Args:
        graph: the whole log.
        starts: where the ways begin.
        admit: how closely an edge to one of the starts ties; None for an edge that is not meant.
    """
    frame: dict[Seq, Kind] = {}
    whole: dict[Seq, Kind] = {}
    edges: dict[Seq, list[Edge]] = {}
    for child in graph.linked_after(min(starts)):
        if child in starts:
            continue
        framed = graph.type_of(child) in FRAMED
        best = of_frame = 0
        over: list[Edge] = []
        for parent, name in graph.edges(child):
            tie = NAMES[name]
            if parent in starts:
                both = of_all = admit(child, name) or 0
            elif parent not in whole or tie.kind == Kind.BACKGROUND:
                continue
            else:
                both, of_all = min(frame.get(parent, 0), tie.kind), min(whole[parent], tie.kind)
            if tie.to == "all":
                both = of_all
            elif tie.to == "frame":
                of_all = both
            if both or of_all:
                over.append((parent, name))
            best = max(best, both, of_all)
            if not tie.member:
                of_frame = max(of_frame, both)
        if best:
            whole[child], edges[child] = Kind(best), over
        if best and not framed:
            frame[child] = Kind(best)
        elif of_frame:
            frame[child] = Kind(of_frame)
    return Forward(whole, edges)


def _raise(ranks: dict[Seq, Kind], seq: Seq, kind: Kind) -> None:
    ranks[seq] = max(kind, ranks.get(seq, kind))
