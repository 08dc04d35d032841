"""An event as the log holds it: the fact, and where, when and why it was recorded."""

from __future__ import annotations

from msgspec import Struct

from .events import AnyEvent
from .words import Digest, Seq, State


class Recorded(Struct, frozen=True, gc=False, kw_only=True):
    """One row of the log, decoded.

    ``cause`` is the event that this one answers: for an effect's outcome, the event on which the machine entered the
    state that owed the effect. ``state_digest`` is given at every 64th position.
    """

    seq: Seq
    recorded_at_us: int
    cycle: int
    cause: Seq | None
    actor: str
    state_before: State
    state_after: State
    key: str | None
    event: AnyEvent
    payload_hash: Digest
    prev_hash: Digest
    hash: Digest
    state_digest: Digest | None
