"""Cuts a log into ranges that can be verified apart, and joins what was found.

A range begins at a saved state and at the hash of the row in front of it, both taken on trust, and ends with the state
and the hash that it came to. If the first range begins at the empty state, and each begins with exactly what the one
before it ended with, then by induction all of them together are the fold from the start: nothing was taken on trust
after all. Where a saved state turns out to be another than the fold gives, the saved state is wrong and the fold is
right, and the range is folded again from where the one before it ended.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

from instar.fsm.state import AgentState
from instar.fsm.words import Seq
from instar.store.reader import LogReader

from .chain import place_before
from .findings import RangeFound
from .folding import Folding, Watch
from .levels import Level

EVENTS_MIN: Final = 20_000
"""A range of fewer events is not worth its beginning."""
PER_JOB: Final = 24
"""Ranges for each process: few enough to be worth it, many enough that all end at about the same time."""
RANGES_MAX: Final = 240

Range = tuple[Seq, Seq]
"""The first and the last event of a range."""


def cut(reader: LogReader, first: Seq, last: Seq, level: Level, jobs: int) -> list[Range]:
    """Cuts the events from ``first`` to ``last`` into ranges, in order; into one where more would not pay.

    Args:
        reader: the log.
        first: the first event.
        last: the last event.
        level: a level that folds needs a saved state in front of each range.
        jobs: how many processes take part.
    """
    count = min(jobs * PER_JOB, (last - first + 1) // EVENTS_MIN, RANGES_MAX)
    if jobs < 2 or count < 2:
        return [(first, last)]
    wanted = [first + (last - first + 1) * place // count for place in range(1, count)]
    if level.includes(Level.TRANSITIONS):
        saved = [0, *(seq for seq, _ in reader.saved_digests() if first < seq < last)]
        wanted = [saved[bisect_left(saved, each) - 1] + 1 for each in wanted]
    starts = sorted({Seq(each) for each in wanted if first < each <= last})
    return list(zip([first, *starts], [*(Seq(start - 1) for start in starts), last], strict=True))


def fold_range(
    reader: LogReader, one: Range, level: Level, *, state: AgentState | None = None, watch: Watch | None = None
) -> tuple[RangeFound, Folding]:
    """Verifies one range.

    Args:
        reader: the log.
        one: the range.
        level: how deep to look.
        state: the state in front of it; by default the saved one.
        watch: called with each row and the state after it.
    """
    first, last = one
    if state is None:
        state = state_before(reader, first) if level.includes(Level.TRANSITIONS) else AgentState()
    folding = Folding(reader, level, state, place_before(reader, first), watch)
    return folding.run(first, last), folding


def state_before(reader: LogReader, first: Seq) -> AgentState:
    """Gives the saved state in front of a range, or, where it does not match its digest, folds up to it."""
    return reader.state_at(first - 1) if first > 1 else AgentState()
