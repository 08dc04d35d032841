"""Verifies a log range by range, and joins what was found in order: the first event that does not fit is the first."""

from __future__ import annotations

from instar.fsm.codec import decode_event
from instar.fsm.decisions import asked_of, return_to, stated
from instar.fsm.events import RollbackStarted
from instar.fsm.state import FORM, AgentState, decode_state
from instar.fsm.words import Seq, digest_of
from instar.store.reader import LogReader, apply

from .compare import compare
from .findings import Claim, RangeFound
from .folding import Folding, Watch
from .levels import Level
from .ranges import Range, fold_range


def verify(reader: LogReader, ranges: list[Range], level: Level, jobs: int, watch: Watch | None) -> list[RangeFound]:
    """Verifies ranges that lie end to end.

    Returns:
        What was found over each, in order.

    Raises:
        LogCorrupt, ReplayDiverged, UnknownEvent: the first event that does not fit, over all ranges.
    """
    found: dict[int, RangeFound] = {}
    folded: dict[int, Folding] = {}
    if len(ranges) > 1:
        from .parallel import verify_ranges

        found, folded = verify_ranges(reader, ranges, level, jobs)
    joined: list[RangeFound] = []
    marks: dict[Seq, AgentState] = {}
    for number, one in enumerate(ranges):
        result, folding = found.get(number), folded.get(number)
        if result is None or (joined and not _follows(result, joined[-1])):
            # Nobody took it, or the saved state that it began with is not what the fold gives: the fold is right.
            state = decode_state(joined[-1].ended.encode()) if joined and joined[-1].ended else None
            result, folding = fold_range(reader, one, level, state=state, watch=watch)
        marks |= folding.marks if folding else {}
        _check_claims(reader, result, marks)
        if result.failure:
            raise result.failure.error()
        if level.includes(Level.DECISIONS):
            marks[result.last] = decode_state(result.ended.encode())
        joined.append(result)
    return joined


def _follows(found: RangeFound, before: RangeFound) -> bool:
    """Says whether a range began with exactly what the one before it ended with."""
    ended = f"{FORM}:{digest_of(before.ended.encode())}" if before.ended else ""
    return found.began_hash == before.last_hash and found.began_digest == ended


def _check_claims(reader: LogReader, found: RangeFound, marks: dict[Seq, AgentState]) -> None:
    """Compares what the beginnings of rollbacks say of earlier states with those states."""
    until = found.failure.seq if found.failure and found.failure.seq is not None else found.last + 1
    for claim in found.claims:
        if claim.seq < until:
            _check_claim(reader, claim, marks)


def _check_claim(reader: LogReader, claim: Claim, marks: dict[Seq, AgentState]) -> None:
    recorded = decode_event("RollbackStarted", RollbackStarted.VERSION, claim.recorded.encode())
    assert isinstance(recorded, RollbackStarted)
    near = max((seq for seq in marks if seq <= claim.target), default=None)
    if near is None:
        then = reader.state_at(claim.target)
    else:
        then = marks[near]
        for record in reader.read(then.head + 1, claim.target):
            then = apply(then, record)
        marks[claim.target] = then
    expected = return_to(then, stated(recorded), asked_of(recorded), recorded.plan, grafted=recorded.tree)
    compare(claim.seq, expected, recorded)
