"""Replay: the log folded again from its first event, every row compared with what the fold gives. Runs no effect."""

from __future__ import annotations

import time
from collections.abc import Callable

from msgspec import Struct

from instar.fsm.chain import GENESIS, link
from instar.fsm.codec import decode_event
from instar.fsm.errors import IllegalTransition, LogCorrupt, ReplayDiverged
from instar.fsm.evolve import evolve
from instar.fsm.state import FORM, AgentState, form_of, state_digest
from instar.fsm.words import Digest, Seq, digest_of
from instar.store.reader import LogReader, Row


class Replayed(Struct, frozen=True, kw_only=True):
    """What a replay found: how much it folded and compared, and the state it ends in."""

    events: int
    transitions: int
    digests: int
    cycles: int
    head_hash: Digest
    state_digest: Digest
    duration_s: float
    state: AgentState


def replay(
    reader: LogReader, *, to: Seq | None = None, watch: Callable[[Row, AgentState], None] | None = None
) -> Replayed:
    """Folds the log from its first event and compares each row.

    For each row: its place, its hash and its link to the row before it; the hash of its payload; that it decodes; that
    the machine accepts it; the state before and after; the cycle; and each recorded state digest.

    Args:
        reader: the log.
        to: the last position to fold; the head by default.
        watch: called with each row and the state after it.

    Raises:
        LogCorrupt: a row does not fit its hash or its place.
        ReplayDiverged: the fold lands elsewhere than the log says.
        UnknownEvent: a payload cannot be read.
    """
    started = time.perf_counter()
    state, prev_hash = AgentState(), GENESIS
    transitions = digests = 0
    for row in reader.rows(1, to):
        before = state
        state = _step(state, row, prev_hash)
        prev_hash = row[13]
        transitions += before.since != state.since
        digests += row[14] is not None
        if watch:
            watch(row, state)
    return Replayed(
        events=state.head,
        transitions=transitions,
        digests=digests,
        cycles=state.cycles,
        head_hash=prev_hash,
        state_digest=state_digest(state),
        duration_s=time.perf_counter() - started,
        state=state,
    )


def _step(state: AgentState, row: Row, prev_hash: Digest) -> AgentState:
    seq, kind, version, at_us, cycle, cause, actor, before, after, key, payload, payload_hash, prev, own, digest = row
    if seq != state.head + 1:
        raise LogCorrupt(f"event {state.head + 1} is missing: the next row is {seq}. Restore the log from a backup.")
    content = payload.encode()
    chained = link(
        prev_hash=prev_hash,
        seq=seq,
        kind=kind,
        version=version,
        recorded_at_us=at_us,
        cycle=cycle,
        cause=cause,
        actor=actor,
        state_before=before,
        state_after=after,
        key=key,
        payload_hash=digest_of(content),
        state_digest=digest,
    )
    if chained != own or prev != prev_hash or payload_hash != digest_of(content):
        raise LogCorrupt(
            f"event {seq} was altered: its columns hash to {chained[:16]}…, the log holds {own[:16]}…. "
            f"Nothing from here on can be trusted; restore the log from a backup."
        )
    event = decode_event(kind, version, content)
    try:
        folded = evolve(state, event, seq=seq, cause=cause, at_us=at_us)
    except IllegalTransition as error:
        raise ReplayDiverged(seq, "transition", f"one that state {state.machine} accepts ({error})", kind) from error
    number = folded.cycle.number if folded.cycle else (state.cycle.number if state.cycle else 0)
    compared = [
        ("state_before", state.machine, before),
        ("state_after", folded.machine, after),
        ("cycle", number, cycle),
    ]
    if digest is not None:
        compared.append(("state_digest", state_digest(folded, form_of(digest) or FORM), digest))
    for name, expected, actual in compared:
        if expected != actual:
            raise ReplayDiverged(seq, name, str(expected), actual)
    return folded
