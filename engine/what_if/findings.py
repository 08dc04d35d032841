"""What another policy would have decided."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from instar.fsm.state import AgentState
from instar.fsm.words import Seq

Decision = Literal[
    "batch", "monitored", "seen", "trigger", "flag", "retrain", "promotion", "plan", "failure", "mutation", "probation"
]


class Otherwise(Struct, kw_only=True):
    """A recorded decision that would have been another."""

    seq: Seq
    """The event that holds the decision, or that the machine decided on."""
    decision: Decision
    was: str
    would_be: str
    facts: str
    """What both rest on."""
    facts_at: tuple[Seq, ...] = ()
    to_run: str = ""
    """What would have to be run to know what comes after; empty if nothing."""
    undone: tuple[Seq, ...] = ()
    """The recorded events that came about through the decision as it was."""
    then: tuple[Seq, ...] = ()
    """Those, and all later events that rest on them."""
    conditional: bool = False
    """The facts themselves rest on an earlier decision that would have been another."""


class WhatIf(Struct, frozen=True, kw_only=True):
    """What would have been, over a log."""

    policy: dict[str, tuple[Any, Any]]
    """Each key, as the last recorded policy has it and as it is here."""
    events: int
    decisions: dict[str, int]
    """Decisions that were taken under the other policy, by kind."""
    otherwise: list[Otherwise]
    affected: tuple[Seq, ...]
    """Every event that rests on a decision that would have been another."""
    to_run: dict[str, int]
    """What would have to be run to know more, and how often."""
    standings: dict[str, tuple[float, float]]
    """Task types whose mean reward would be another at the end: recorded, and under the other policy."""
    gaps: list[str]
    """What could not be read while looking for what rests on what."""
    state: AgentState
    """The recorded state at the end."""
