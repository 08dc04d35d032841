"""Takes each recorded decision again, from recorded facts, with the functions that took it the first time.

What is compared of each event stands in the modules ``on_…``; docs/audit.md lists it. What cannot be decided again
here (a reward model that is not installed, a text that was erased) is counted by name, and never passed in silence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from instar.fsm.codec import encode_event
from instar.fsm.events import AnyEvent, RollbackStarted
from instar.fsm.state import AgentState
from instar.store.reader import LogReader, Row

from .facts import Fact, Facts
from .findings import Claim
from .judges import Judges

Check = Callable[["Decider", AgentState, Fact, Any], None]
"""Compares one event with what should have been decided in the state before it."""


class Decider:
    """Decides again, event by event.

    Args:
        reader: the log, for the facts that a decision rested on.
        judges: reward models and planners; by default the built-in ones and what is installed here.
    """

    def __init__(self, reader: LogReader, judges: Judges | None = None) -> None:
        self.facts = Facts(reader)
        self.judges = judges or Judges()
        self.taken: Counter[str] = Counter()
        self.untaken: Counter[str] = Counter()
        self.claims: list[Claim] = []
        self._checks = checks()

    def check(self, before: AgentState, row: Row, event: AnyEvent) -> None:
        """Compares an event with what should have been decided.

        Args:
            before: the state in front of it.
            row: its raw row.
            event: the event.

        Raises:
            ReplayDiverged: another decision should have been taken; the error names the field.
        """
        check = self._checks.get(type(event))
        if check is not None:
            fact = Fact(row[0], row[5], row[9], row[3], row[11], row[13], event, row[10] is None)
            check(self, before, fact, event)

    def claim(self, fact: Fact, event: RollbackStarted) -> None:
        """Keeps what a rollback says of an earlier state, to be compared with that state."""
        self.claims.append(Claim(seq=fact.seq, target=event.target, recorded=encode_event(event).decode()))

    def signals(self, before: AgentState) -> list[Fact]:
        """Gives the signals of the cycle in progress."""
        return self.facts.signals(before.cycle) if before.cycle else []


def checks() -> dict[type, Check]:
    """Lists what is compared, by the type of the event."""
    from . import on_cycle, on_learning, on_points, on_signals

    return {**on_signals.CHECKS, **on_cycle.CHECKS, **on_learning.CHECKS, **on_points.CHECKS}
