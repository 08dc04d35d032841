"""The state diagram: the machine's own transitions, laid out as a racetrack, wide for a desk and tall for a phone."""

from __future__ import annotations

from functools import cache

from msgspec import Struct

from instar.fsm.machine import DECLARATION
from instar.fsm.words import State

_PILL = (116.0, 40.0)
_GAP = 5.0


class Node(Struct, frozen=True):
    """A state, at its centre."""

    name: str
    x: float
    y: float


class Edge(Struct, frozen=True):
    """A transition: an SVG path, and the events that take it."""

    source: str
    target: str
    path: str
    label: str


class Diagram(Struct, frozen=True):
    """What the page draws, in SVG units."""

    name: str
    width: int
    height: int
    pill: tuple[float, float]
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]


class _Layout(Struct, frozen=True):
    name: str
    width: int
    height: int
    places: dict[State, tuple[float, float]]
    bends: dict[tuple[State, State], float]
    """How far a path leaves the straight line, to the left as it runs."""


_I, _D, _E, _F, _G, _T, _R, _P = State
_WIDE = _Layout(
    "wide",
    700,
    254,
    {
        **{state: (80.0 + 180.0 * column, 90.0) for column, state in enumerate((_I, _D, _E, _F))},
        **{state: (620.0 - 180.0 * column, 186.0) for column, state in enumerate((_G, _T, _R, _P))},
    },
    {
        (_I, _F): 66.0,
        (_E, _I): -44.0,
        (_G, _R): 48.0,
        (_I, _P): 26.0,
        (_P, _I): 26.0,
        (_R, _P): 14.0,
        (_P, _R): 14.0,
    },
)
_TALL = _Layout(
    "tall",
    360,
    344,
    {
        _I: (104.0, 34.0),
        _D: (256.0, 34.0),
        _E: (256.0, 126.0),
        _F: (256.0, 218.0),
        _G: (256.0, 310.0),
        _T: (104.0, 310.0),
        _R: (104.0, 218.0),
        _P: (104.0, 126.0),
    },
    {(_I, _P): 24.0, (_P, _I): 24.0, (_R, _P): 24.0, (_P, _R): 24.0, (_I, _F): 14.0, (_E, _I): -10.0},
)


@cache
def diagrams() -> tuple[Diagram, Diagram]:
    """Draws both layouts."""
    return _draw(_WIDE), _draw(_TALL)


def transitions() -> dict[tuple[State, State], list[str]]:
    """Gives each move between two different named states, with the events that make it."""
    moves: dict[tuple[State, State], list[str]] = {}
    for way in DECLARATION:
        source, target = way["source"], way["dest"]
        if isinstance(source, State) and isinstance(target, State) and source is not target:
            condition = way.get("conditions")
            label = f"{way['trigger']}, if {condition.replace('_', ' ')}" if condition else way["trigger"]
            moves.setdefault((source, target), []).append(label)
    return moves


def _draw(layout: _Layout) -> Diagram:
    edges = tuple(
        Edge(source, target, _path(layout, source, target), f"{source} → {target}: {'; '.join(labels)}")
        for (source, target), labels in transitions().items()
    )
    nodes = tuple(Node(state, *layout.places[state]) for state in State)
    return Diagram(layout.name, layout.width, layout.height, _PILL, nodes, edges)


def _path(layout: _Layout, source: State, target: State) -> str:
    """Draws a quadratic curve from the border of one pill to the border of another."""
    (x1, y1), (x2, y2) = layout.places[source], layout.places[target]
    bend = layout.bends.get((source, target), 0.0)
    length = ((x2 - x1) ** 2 + (y2 - y1) ** 2) ** 0.5
    # The control point stands twice as far off as the curve itself goes.
    cx = (x1 + x2) / 2 + 2 * bend * (y2 - y1) / length
    cy = (y1 + y2) / 2 - 2 * bend * (x2 - x1) / length
    start, end = _border(x1, y1, cx, cy), _border(x2, y2, cx, cy)
    return f"M{start[0]:.1f} {start[1]:.1f}Q{cx:.1f} {cy:.1f} {end[0]:.1f} {end[1]:.1f}"


def _border(x: float, y: float, to_x: float, to_y: float) -> tuple[float, float]:
    """Finds where a line from the centre of a pill leaves it."""
    half_width, half_height = _PILL[0] / 2 + _GAP, _PILL[1] / 2 + _GAP
    dx, dy = to_x - x, to_y - y
    share = min(half_width / abs(dx) if dx else 1e9, half_height / abs(dy) if dy else 1e9)
    return x + dx * share, y + dy * share
