"""Events on their way into the log: folded, chained and laid out as rows, but not yet written."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct

from instar.fsm.chain import link
from instar.fsm.codec import encode_event
from instar.fsm.errors import ConfigError, IllegalTransition, PositionConflict
from instar.fsm.events import AnyEvent
from instar.fsm.evolve import evolve
from instar.fsm.record import Recorded
from instar.fsm.state import AgentState, state_digest
from instar.fsm.words import Digest, Seq, digest_of

from .ports import Row

DIGEST_EVERY = 64


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
        now_us: tells the time.
        actor: who appends.
        known: finds the event that is recorded under a key.
    """

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
        self._now_us, self._actor, self._known = now_us, actor, known
        self._keyed: dict[str, Recorded] = {}

    def add_all(self, pending: Sequence[Pending]) -> list[Recorded]:
        """Drafts some events together; gives what was recorded, now or under the same keys before.

        Raises:
            IllegalTransition: the machine does not accept one of them; the draft is as it was.
            PositionConflict: some of their keys were recorded before, and some not; the draft is as it was.
        """
        known = self._recorded_before(pending)
        if known is not None:
            return known
        before = self.state, self.digest, self.last_us, len(self.rows)
        try:
            records = [self._add(one) for one in pending]
        except BaseException:
            self.state, self.digest, self.last_us, count = before
            del self.rows[count:]
            raise
        for record in records:
            if record.key is not None:
                self._keyed[record.key] = record
        return records

    def _recorded_before(self, pending: Sequence[Pending]) -> list[Recorded] | None:
        keys = [one.key for one in pending if one.key is not None]
        if not keys:
            return None
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

    def _add(self, one: Pending) -> Recorded:
        state, event, kind = self.state, one.event, type(one.event)
        seq = Seq(state.head + 1)
        if one.key is not None and "\n" in one.key:
            raise ConfigError(f"the key {one.key!r} holds a line feed, by which the hash of a row parts its columns")
        cause = one.cause if one.after is None else Seq(seq - one.after)
        if cause is not None and not 0 < cause < seq:
            raise IllegalTransition(f"event {seq} cannot answer event {cause}: a cause is an earlier event")
        at_us = self.last_us = max(self._now_us(), self.last_us)
        after = evolve(state, event, seq=seq, cause=cause, at_us=at_us)
        payload = encode_event(event)
        payload_hash = digest_of(payload)
        cycle = after.cycle or state.cycle
        number = cycle.number if cycle else 0
        before, then, key = state.machine, after.machine, one.key
        digest = state_digest(after) if seq % DIGEST_EVERY == 0 else None
        prev_hash = self.digest
        place = (seq, kind.__name__, kind.VERSION, at_us, number, cause, self._actor, before._value_, then._value_, key)
        own = link(prev_hash, *place, payload_hash, digest)
        self.rows.append((*place, payload.decode(), payload_hash, prev_hash, own, digest))
        self.state, self.digest = after, own
        return Recorded(
            seq=seq,
            recorded_at_us=at_us,
            cycle=number,
            cause=cause,
            actor=self._actor,
            state_before=before,
            state_after=then,
            key=key,
            event=event,
            payload_hash=payload_hash,
            prev_hash=prev_hash,
            hash=own,
            state_digest=digest,
        )
