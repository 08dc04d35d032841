"""Decisions on mutations under another policy: whether the budget lets one be tried, and what it may touch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from instar.engine.protection import TOUCHES, protected_among
from instar.fsm import events as e
from instar.fsm.decisions import budget_refusal
from instar.fsm.state import AgentState

if TYPE_CHECKING:
    from instar.engine.replay.facts import Fact

    from .deciding import Deciding, Handler

_TRY = "a patch would have to be tried behind its gate"


def _accepted(deciding: Deciding, before: AgentState, fact: Fact, _event: e.MutationAccepted) -> None:
    deciding.decisions["mutation"] += 1
    refusal = budget_refusal(deciding.other.state(before, deciding.shadow))
    if refusal is not None:
        deciding.shadow.refused = True
        deciding.differs(
            fact,
            "mutation",
            "accepted",
            f"refused: {refusal}",
            _tried(before),
            facts_at=(fact.seq,),
            undone=(fact.seq,),
        )


def _rejected(deciding: Deciding, before: AgentState, fact: Fact, event: e.MutationRejected) -> None:
    deciding.decisions["mutation"] += 1
    state = deciding.other.state(before, deciding.shadow)
    refusal = budget_refusal(state)
    if refusal is not None:
        if budget_refusal(before) is None:
            deciding.shadow.refused = True
            deciding.differs(
                fact, "mutation", "tried and rejected", f"refused: {refusal}", _tried(before), facts_at=(fact.seq,)
            )
        return
    if budget_refusal(before) is not None:
        deciding.differs(
            fact, "mutation", "refused: no budget", "tried", _tried(before), facts_at=(fact.seq,), to_run=_TRY
        )
    elif event.reason.startswith(TOUCHES):
        paths = event.reason.removeprefix(TOUCHES).split(", ")
        if not protected_among(paths, state.policy.mutation.protected):
            facts = f"touches {', '.join(paths)}"
            deciding.differs(fact, "mutation", "refused: protected", "tried", facts, facts_at=(fact.seq,), to_run=_TRY)


def _tried(before: AgentState) -> str:
    return f"{len(before.mutations_at_us)} mutations within the hour"


def check_protected(deciding: Deciding, before: AgentState, fact: Fact, event: e.ChangeObserved) -> None:
    """What an applied mutation changed must be none of what the other policy protects."""
    policy = deciding.other.policy(before.policy)
    if fact.cause is None or policy.mutation.protected == before.policy.mutation.protected:
        return
    applied = deciding.facts.at(fact.cause, fact.seq)
    if not isinstance(applied.event, e.MutationApplied) or applied.cause is None:
        return
    touched = protected_among([event.path], policy.mutation.protected)
    if touched and deciding.last("mutation", applied.cause) is None:
        accepted = deciding.facts.at(applied.cause, fact.seq)
        deciding.differs(
            accepted,
            "mutation",
            "accepted",
            f"refused: {TOUCHES}{event.path}",
            f"touches {event.path}",
            facts_at=(fact.seq,),
            undone=(accepted.seq,),
        )


HANDLERS: dict[type, Handler] = {
    e.MutationAccepted: _accepted,
    e.MutationRejected: _rejected,
}
