"""Decides under another policy, event by event, and keeps what the recorded policy decided otherwise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from instar.engine.replay.facts import Fact, Facts
from instar.engine.replay.judges import Judges
from instar.fsm import events as e
from instar.fsm.state import AgentState
from instar.fsm.words import Seq

from .findings import Decision, Otherwise
from .shadow import Other, Shadow

Handler = Callable[["Deciding", AgentState, Fact, Any], None]

LEARNING = (e.RetrainFlagged, e.DatasetGenerated, e.TrainingProgressed, e.CheckpointTrained, e.MemoryReembedded)
_LEARNING_EFFECTS = {"flag", "generate", "train"}


class Deciding:
    """Goes through a log beside the fold.

    Args:
        facts: earlier events, for what a decision rested on.
        other: the other policy.
    """

    def __init__(self, facts: Facts, other: Other) -> None:
        self.facts = facts
        self.other = other
        self.judges = Judges()
        self.shadow = Shadow()
        self.otherwise: list[Otherwise] = []
        self.decisions: Counter[str] = Counter()
        self.to_run: Counter[str] = Counter()
        self._handlers = handlers()
        self._voiding: Otherwise | None = None

    def step(self, before: AgentState, fact: Fact, after: AgentState) -> None:
        """Takes the decision that an event holds under the other policy, and goes on.

        Args:
            before: the recorded state in front of the event.
            fact: the event.
            after: the recorded state behind it.
        """
        if self._is_void(fact):
            assert self._voiding is not None
            self._voiding.undone += (fact.seq,)
        handler = self._handlers.get(type(fact.event))
        if handler is not None:
            handler(self, before, fact, fact.event)
        if after.cycle is None and before.cycle is not None:
            self.shadow.void, self.shadow.refused, self._voiding = "", False, None

    def differs(self, fact: Fact, decision: Decision, was: str, would_be: str, facts: str, **more: Any) -> Otherwise:
        """Notes that a decision would have been another."""
        found = Otherwise(seq=fact.seq, decision=decision, was=was, would_be=would_be, facts=facts, **more)
        self.otherwise.append(found)
        if found.to_run:
            self.to_run[found.to_run] += 1
        return found

    def voids(self, found: Otherwise, *, everything: bool) -> None:
        """Notes that what follows in this cycle would not have been: its retrain, or all of it."""
        self.shadow.void = "all" if everything else "learning"
        self._voiding = found

    def last(self, decision: Decision, since: Seq) -> Otherwise | None:
        """Gives the last decision of a kind that was found to differ, at or after an event."""
        return next((one for one in reversed(self.otherwise) if one.decision == decision and one.seq >= since), None)

    def is_void(self, fact: Fact) -> bool:
        """Says whether an event would not have been, so that it holds no decision."""
        return self._is_void(fact)

    def _is_void(self, fact: Fact) -> bool:
        event, void = fact.event, self.shadow.void
        if not void or fact.cause is None:  # a signal from outside is recorded whatever the cycle does
            return False
        if void == "all":
            return not isinstance(event, e.FeedbackReceived | e.ChangeObserved | e.RollbackStarted)
        if isinstance(event, e.EffectFailed):
            return event.effect in _LEARNING_EFFECTS
        return isinstance(event, LEARNING) or (isinstance(event, e.OutcomeRewarded) and event.subject == "checkpoint")


def handlers() -> dict[type, Handler]:
    """Lists who decides, by the type of the event."""
    from . import of_cycle, of_learning, of_mutation, of_probation

    return {**of_cycle.HANDLERS, **of_learning.HANDLERS, **of_mutation.HANDLERS, **of_probation.HANDLERS}
