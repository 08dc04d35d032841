"""Replay: the log folded again from its first event, every row compared with what the fold gives. Runs no effect.

Each level (``levels.py``) includes those before it. Rows are verified many at a time, column by column (``chain.py``,
``stretch.py``), and one by one where that says no (``folding.py``); a large log in ranges that several processes share
(``ranges.py``, ``parallel.py``). Decisions are taken again with the same functions that took them (``decisions.py``).
"""

from __future__ import annotations

import os
import time
from collections import Counter

from instar.fsm.chain import GENESIS
from instar.fsm.errors import ConfigError
from instar.fsm.state import AgentState, decode_state, state_digest
from instar.fsm.words import Digest, Seq
from instar.store.reader import LogReader

from .findings import Replayed
from .folding import Watch
from .joining import verify
from .levels import Level, level_of
from .ranges import cut

__all__ = ["Level", "Replayed", "level_of", "replay"]

SHARED_FROM = 100_000
"""Events from which a second process is worth its start."""


def replay(
    reader: LogReader,
    *,
    to: Seq | None = None,
    first: Seq | None = None,
    level: Level = Level.DIGESTS,
    jobs: int | None = None,
    watch: Watch | None = None,
) -> Replayed:
    """Folds the log from its first event and compares each row with what the level asks for.

    Args:
        reader: the log.
        to: the last event; the head by default.
        first: the first event to compare; what lies before it is taken from a saved state, and folded without
            comparing from there on.
        level: how deep to look.
        jobs: how many processes take part in a large log; as many as there are cores by default.
        watch: called with each row and the state after it, in this process.

    Raises:
        LogCorrupt: a row does not fit its hash or its place.
        ReplayDiverged: the fold, or a decision that was taken again, lands elsewhere than the log says.
        UnknownEvent: a payload cannot be read.
        ConfigError: ``first`` lies after ``to``, or the level asks for effects to be run.
    """
    if level is Level.EFFECTS:
        raise ConfigError("a replay runs no effect: replay to decisions, then see instar.engine.reexecution.reexecute")
    started = time.perf_counter()
    last = reader.head() if to is None else to
    begin = Seq(1) if first is None else first
    if begin > max(last, 1):
        raise ConfigError(f"there is nothing to replay from event {begin} to event {last}")
    shared = _jobs(reader, last - begin + 1, jobs, watch)
    ranges = cut(reader, begin, last, level, shared) if last else []
    found = verify(reader, ranges, level, shared, watch)
    folds = level.includes(Level.TRANSITIONS)
    state = decode_state(found[-1].ended.encode()) if found and folds else AgentState()
    return Replayed(
        events=sum(one.events for one in found),
        transitions=sum(one.transitions for one in found),
        digests=sum(one.digests for one in found),
        cycles=state.cycles,
        head_hash=found[-1].last_hash if found else GENESIS,
        state_digest=state_digest(state) if folds else Digest(""),
        duration_s=time.perf_counter() - started,
        state=state,
        level=level,
        jobs=shared if len(ranges) > 1 else 1,
        first=begin,
        start=_start(reader, begin) if folds and begin > 1 else "",
        decisions=_summed([one.decisions for one in found]),
        untaken=_summed([one.untaken for one in found]),
    )


def _jobs(reader: LogReader, events: int, wanted: int | None, watch: Watch | None) -> int:
    """Says how many processes take part; one where rows are watched, or the log is small or no file."""
    if watch is not None or reader.place.url is not None or (wanted is None and events < SHARED_FROM):
        return 1
    return max(1, len(os.sched_getaffinity(0)) if wanted is None else wanted)


def _start(reader: LogReader, first: Seq) -> str:
    """Says what a fold that does not begin at the first event begins with."""
    saved = reader.snapshot_before(first - 1).head
    if not saved:
        return f"folded from event 1 to event {first - 1} without comparing"
    begun = f"begun with the saved state of event {saved}, which matches its digest"
    return begun if saved == first - 1 else f"{begun}; folded to event {first - 1} without comparing"


def _summed(counts: list[dict[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return dict(sorted(total.items()))
