"""Events on their way into the log: folded, chained and laid out as rows, but not yet written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import takewhile

from msgspec import Struct

from instar.fsm.chain import link
from instar.fsm.codec import encode_event
from instar.fsm.errors import ConfigError, IllegalTransition, PositionConflict
from instar.fsm.events import AnyEvent, ChangeObserved, FeedbackReceived
from instar.fsm.evolve import evolve
from instar.fsm.record import Recorded
from instar.fsm.runs import evolve_run
from instar.fsm.state import AgentState, state_digest
from instar.fsm.words import ORIGIN, Digest, Seq, digest_of

from .ports import STAGED, Row

DIGEST_EVERY = 64
_SIGNALS = frozenset({ChangeObserved, FeedbackReceived})
"""What ``evolve_run`` folds many of in one step."""


class Pending(Struct, frozen=True, gc=False):
    """An event that is to be recorded.

    ``after`` names its cause by distance where the cause is recorded in the same append: 1 is the event just before.
    """

    event: AnyEvent
    cause: Seq | None = None
    key: str | None = None
    after: int | None = None


class Draft:
    """Rows that follow a head, for one transaction.

    Args:
        state: the state at the head.
        digest: the hash of the head.
        last_us: the time recorded last; recorded times never go back.
        now_us: tells the time; what is recorded together has one time.
        actor: who appends.
        known: finds the event that is recorded under a key.
    """

    __slots__ = ("_actor", "_keyed", "_known", "_now_us", "_stage", "digest", "last_us", "rows", "staged", "state")

    def __init__(
        self,
        state: AgentState,
        digest: Digest,
        last_us: int,
        *,
        now_us: Callable[[], int],
        actor: str,
        known: Callable[[str], Recorded | None],
    ) -> None:
        self.state, self.digest, self.last_us = state, digest, last_us
        self.rows: list[Row] = []
        """What is not staged."""
        self.staged = 0
        self._stage: Callable[[Sequence[Row]], bool] | None = None
        self._now_us, self._actor, self._known = now_us, actor, known
        self._keyed: dict[str, Recorded] = {}

    def stage_by(self, stage: Callable[[Sequence[Row]], bool]) -> None:
        """Lets a large draft be written while it is made. One of which something is refused can then not be used."""
        self._stage = stage

    def add_for(self, actor: str, at_us: int, one: Pending) -> Recorded:
        """Drafts an event that another process asks for, at the time at which it asked.

        Raises:
            IllegalTransition: the machine does not accept it; the draft is as it was.
        """
        own = self._actor, self._now_us
        self._actor, self._now_us = actor, lambda: at_us
        try:
            return self.add_all((one,))[0]
        finally:
            self._actor, self._now_us = own

    def add_all(self, pending: Sequence[Pending]) -> list[Recorded]:
        """Drafts some events together; gives what was recorded, now or under the same keys before.

        Raises:
            IllegalTransition: the machine does not accept one of them; the draft is as it was.
            PositionConflict: some of their keys were recorded before, and some not; the draft is as it was.
        """
        keyed = any(one.key is not None for one in pending)
        if keyed and (known := self._recorded_before(pending)) is not None:
            return known
        before = self.state, self.digest, self.last_us, len(self.rows)
        try:
            records = self._add(pending)
        except BaseException:
            self.state, self.digest, self.last_us, count = before
            del self.rows[count:]
            raise
        if keyed:
            self._keyed.update((record.key, record) for record in records if record.key is not None)
        return records

    def _recorded_before(self, pending: Sequence[Pending]) -> list[Recorded] | None:
        keys = [one.key for one in pending if one.key is not None]
        for key in keys:
            if "\n" in key:
                raise ConfigError(f"the key {key!r} holds a line feed, by which the hash of a row parts its columns")
        found = [self._keyed.get(key) or self._known(key) for key in keys]
        known = [record for record in found if record is not None]
        if not known:
            return None
        if len(known) < len(pending):
            raise PositionConflict(
                f"event {known[0].seq} is recorded under the key {known[0].key!r} already, but not all that was to be "
                "recorded with it: nothing was recorded. Read the log and decide again."
            )
        return known

    def _add(self, pending: Sequence[Pending]) -> list[Recorded]:
        records: list[Recorded] = []
        at_us = self.last_us = max(self._now_us(), self.last_us)
        while len(records) < len(pending):
            done = len(records)
            one = pending[done]
            if type(one.event) in _SIGNALS and self.state.head != ORIGIN:
                run = self._run_from(pending, done)
                records += self._rows(run, evolve_run(self.state, [each.event for each in run]), at_us)  # type: ignore[misc]
            else:
                seq = Seq(self.state.head + 1)
                state = evolve(self.state, one.event, seq=seq, cause=_cause(one, seq), at_us=at_us)
                records += self._rows((one,), state, at_us)
            if self._stage is not None and len(self.rows) >= STAGED:
                if self._stage(self.rows[:STAGED]):
                    self.staged += STAGED
                    del self.rows[:STAGED]
                else:
                    self._stage = None
        return records

    def _run_from(self, pending: Sequence[Pending], first: int) -> Sequence[Pending]:
        """Gives the signals from ``first`` on that follow each other, up to where the digest of a state is due."""
        if len(pending) == 1:
            return pending
        last = first + DIGEST_EVERY - self.state.head % DIGEST_EVERY
        return list(takewhile(lambda one: type(one.event) in _SIGNALS, pending[first:last]))

    def _rows(self, pending: Sequence[Pending], after: AgentState, at_us: int) -> list[Recorded]:
        """Lays out rows and records of events that together lead to ``after``, and stands there."""
        state, actor, prev_hash = self.state, self._actor, self.digest
        cycle = after.cycle or state.cycle
        number = cycle.number if cycle else 0
        before, then = state.machine, after.machine
        before_text, then_text = before._value_, then._value_
        records, seq, digest = [], state.head, None
        for one in pending:
            seq = Seq(seq + 1)
            event, key = one.event, one.key
            cause = _cause(one, seq)
            kind = type(event)
            payload = encode_event(event)
            payload_hash = digest_of(payload)
            if seq % DIGEST_EVERY == 0:  # only ever the last of them
                digest = state_digest(after)
            name, version = kind.__name__, kind.VERSION
            place = (seq, name, version, at_us, number, cause, actor, before_text, then_text, key)
            own = link(prev_hash, *place, payload_hash, digest)
            self.rows.append((*place, payload.decode(), payload_hash, prev_hash, own, digest))
            records.append(
                Recorded(
                    seq=seq,
                    recorded_at_us=at_us,
                    cycle=number,
                    cause=cause,
                    actor=actor,
                    state_before=before,
                    state_after=then,
                    key=key,
                    event=event,
                    payload_hash=payload_hash,
                    prev_hash=prev_hash,
                    hash=own,
                    state_digest=digest,
                )
            )
            prev_hash = own
        self.state, self.digest = after, prev_hash
        return records


def _cause(one: Pending, seq: Seq) -> Seq | None:
    """Gives the cause of an event that is to be recorded at a position.

    Raises:
        IllegalTransition: it is no earlier event.
    """
    cause = one.cause if one.after is None else Seq(seq - one.after)
    if cause is not None and not 0 < cause < seq:
        raise IllegalTransition(f"event {seq} cannot answer event {cause}: a cause is an earlier event")
    return cause
