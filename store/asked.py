"""A request to another process, and what comes of it: an event before and after somebody else records it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from instar.fsm.codec import decode_event, encode_event
from instar.fsm.errors import InstarError
from instar.fsm.events import AnyEvent
from instar.fsm.record import Recorded
from instar.fsm.words import Digest, Seq, State

from .drafting import Draft, Pending
from .naming import digests_of
from .slots import Answer, Asked


class _Wanted(Struct, array_like=True, frozen=True, gc=False):
    actor: str
    at_us: int
    cause: Seq | None
    kind: str
    version: int
    payload: bytes


_ENCODE = msgspec.msgpack.Encoder().encode
_DECODE = msgspec.msgpack.Decoder(_Wanted).decode


def names_nothing(event: AnyEvent) -> bool:
    """Says whether an event names no blob: whether one is still there, only who looked it up can tell."""
    return next(digests_of(event), None) is None


def request(one: Pending, payload: bytes, actor: str, at_us: int) -> bytes:
    """Writes down an event with all that another process has to know of it.

    Args:
        one: the event.
        payload: its canonical JSON.
        actor: who appends it.
        at_us: when.
    """
    return _ENCODE(_Wanted(actor, at_us, one.cause, type(one.event).__name__, type(one.event).VERSION, payload))


def draft_asked(draft: Draft, asked: Sequence[Asked]) -> list[tuple[Asked, Recorded]]:
    """Drafts what others ask for; what cannot be read or is not accepted is left for its own process to hear of."""
    drafted = []
    for one in asked:
        try:
            wanted = _DECODE(one.content)
            event = decode_event(wanted.kind, wanted.version, wanted.payload)
            # Of another version of Instar it may be something else than it is here.
            if encode_event(event) == wanted.payload and names_nothing(event):
                drafted.append((one, draft.add_for(wanted.actor, wanted.at_us, Pending(event, wanted.cause))))
        except (InstarError, msgspec.MsgspecError):
            continue
    return drafted


def record_of(answer: Answer, one: Pending, payload_hash: Digest, actor: str) -> Recorded:
    """Makes the record of an event that another process recorded, but for the digest of a state."""
    return Recorded(
        seq=answer.seq,
        recorded_at_us=answer.recorded_at_us,
        cycle=answer.cycle,
        cause=one.cause,
        actor=actor,
        state_before=State(answer.state_before),
        state_after=State(answer.state_after),
        key=None,
        event=one.event,
        payload_hash=payload_hash,
        prev_hash=answer.prev_hash,
        hash=answer.hash,
        state_digest=None,
    )
