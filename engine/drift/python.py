"""Drift of Python: definitions aligned by syntax, each compared by what it means.

1. Definitions with the same lines, or the same plain form (``syntax``), are no change.
2. What differs is told in the form that undoes rewriting (``canonical``), parameters by their place. Equal there, it
   was rewritten, and little more than its readers can see the difference.
3. Names that were exchanged throughout are found, and what vanished is paired with what is new: moved, renamed.
4. What still differs has changed: by how much of its form, and by the gravest kind of what differs (``measure``).
"""

from __future__ import annotations

from typing import Final

from instar.engine.differences.units import MODULE

from .align import aligned
from .forms import Forms
from .imports import imports
from .judge import alone, judged
from .measure import graded
from .result import BOUNDARY, KEPT, Drift, UnitDrift
from .source import Source

ADDED: Final = 0.35
REMOVED: Final = 0.40
"""What a definition that is new, or gone, counts at least: it changes nothing that stood there, or takes it away."""
LINES_MAX: Final = 12


def compare(before: str, after: str) -> Drift:
    """Says how far a Python source drifted.

    Raises:
        SyntaxError, ValueError, RecursionError, MemoryError: one version cannot be parsed.
    """
    old, new = Forms(Source(before)), Forms(Source(after))
    pairs = aligned(old, new)
    units = [found for pair in pairs.both if (found := judged(old, new, pair, pairs.names)) is not None]
    units += [alone(new, name, "added", ADDED) for name in pairs.added]
    units += [alone(old, name, "removed", REMOVED) for name in pairs.removed]
    brought = imports(old.source, new.source)
    if brought is not None:
        units.append(brought)
    return _whole(units, old.source, new.source)


def compare_or_none(before: str, after: str) -> Drift | None:
    """Says how far a Python source drifted; None where a version is too deep or too odd for the rules."""
    try:
        return compare(before, after)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _whole(units: list[UnitDrift], before: Source, after: Source) -> Drift:
    """Puts the definitions together: the one that drifted most, and how much of the source drifted beside it."""
    units = sorted(units, key=lambda unit: -unit.drift)
    drift = max((unit.drift for unit in units), default=0.0)
    if drift >= BOUNDARY:
        lines = max(1, before.lines + after.lines)
        moved = sum(unit.share * _lines_of(unit, before, after) for unit in units if unit.drift >= BOUNDARY)
        drift = max(drift, graded(drift, moved / lines))
    return Drift(
        drift=round(drift, 6),
        similarity=round(1.0 - drift, 6),
        changed=any(unit.what not in KEPT for unit in units),
        how="syntax",
        because=_told(units),
        units=tuple(units),
    )


def _lines_of(unit: UnitDrift, before: Source, after: Source) -> int:
    places = [source.places.get(name) for source, name in ((before, unit.was or unit.name), (after, unit.name))]
    return sum(sum(1 for line in place.text.splitlines() if line.strip()) for place in places if place)


def _told(units: list[UnitDrift]) -> tuple[str, ...]:
    """One line for each reason, the gravest definitions first."""
    several = len(units) > 1
    told = [unit for unit in units if not (several and unit.name == MODULE and unit.what == "layout")]
    lines = [f"{unit.name}: {reason}" for unit in told for reason in unit.because]
    if not lines:
        return ("no difference that is read",)
    more = len(lines) - LINES_MAX
    return tuple(lines if more <= 0 else [*lines[:LINES_MAX], f"and {more} more lines"])
