"""What a replay finds: over one range of the log, and over all of it."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from instar.fsm import errors
from instar.fsm.errors import InstarError, LogCorrupt, ReplayDiverged
from instar.fsm.state import AgentState
from instar.fsm.words import Digest, Seq

from .levels import Level


class Replayed(Struct, frozen=True, kw_only=True):
    """What a replay found: how much it verified and compared, and the state it ends in."""

    events: int
    """Events that were verified."""
    transitions: int
    digests: int
    cycles: int
    head_hash: Digest
    state_digest: Digest
    """Of the last state; empty where the level folds nothing."""
    duration_s: float
    state: AgentState
    """Where the fold ends; the empty state where the level folds nothing."""
    level: Level = Level.DIGESTS
    jobs: int = 1
    """Processes that took part."""
    first: Seq = Seq(1)
    start: str = ""
    """Where the fold began and what vouches for the state there, if not at the first event."""
    decisions: dict[str, int] = {}
    """How many decisions of each kind were taken again."""
    untaken: dict[str, int] = {}
    """What could not be decided again here, and how often."""


class Failure(Struct, frozen=True, kw_only=True):
    """The first event of a range that does not fit, as data that another process can be told."""

    kind: str
    message: str
    seq: int | None = None
    field: str = ""
    expected: Any = None
    actual: Any = None
    by: str = ""

    @classmethod
    def of(cls, error: InstarError) -> Failure:
        """Takes an error apart."""
        return cls(kind=type(error).__name__, message=str(error), **error.details)

    def error(self) -> InstarError:
        """Makes the error again."""
        if self.kind == "ReplayDiverged" and self.seq is not None:
            return ReplayDiverged(self.seq, self.field, self.expected, self.actual, self.by)
        if self.kind == "LogCorrupt":
            place = {"seq": self.seq, "field": self.field, "expected": self.expected, "actual": self.actual}
            return LogCorrupt(self.message, **place)
        made: InstarError = getattr(errors, self.kind, InstarError)(self.message)
        return made


class Claim(Struct, frozen=True, kw_only=True):
    """What the beginning of a rollback says about an earlier state, which may lie in another range."""

    seq: Seq
    target: Seq
    recorded: str
    """The event, as canonical JSON."""


class RangeFound(Struct, frozen=True, kw_only=True):
    """What was found from ``first`` to ``last``, resting on the state and the hash in front of ``first``."""

    first: Seq
    last: Seq
    began_digest: Digest
    """Of the state that the fold of the range began with; empty where the level folds nothing."""
    began_hash: Digest
    """The hash of the row in front of it."""
    last_hash: Digest
    ended: str
    """The state after the last event that was folded, as canonical JSON; empty where the level folds nothing."""
    events: int
    transitions: int
    digests: int
    decisions: dict[str, int] = {}
    untaken: dict[str, int] = {}
    claims: tuple[Claim, ...] = ()
    failure: Failure | None = None
