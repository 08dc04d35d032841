"""Decisions on probations under another policy: how long a mutation is watched, and which fall undoes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from instar.fsm import events as e
from instar.fsm.probation import begun, concluded, watched_on
from instar.fsm.state import AgentState

if TYPE_CHECKING:
    from instar.engine.replay.facts import Fact

    from .deciding import Deciding, Handler

_UNDO = "an undo would have to be tried, and what the agent then earns is not known"
_WATCH = "whether it is kept would show in outcomes that came after it was undone"


def _applied(deciding: Deciding, before: AgentState, fact: Fact, event: e.MutationApplied) -> None:
    """Begins to watch, unless the version of the event watched none, or the mutation would not have been tried."""
    shadow, policy = deciding.shadow, deciding.other.policy(before.policy)
    shadow.probation = None
    if event.probation is None or shadow.refused or fact.cause is None or not policy.mutation.probation:
        return
    shadow.probation = begun(
        fact.seq, fact.cause, event.tree, policy.mutation.probation, shadow.standings, policy.reward
    )


def count_in(deciding: Deciding, before: AgentState, fact: Fact, rewards: Sequence[e.Reward]) -> None:
    """Counts rewards in; tells of a mutation that would be undone on them while it was watched on."""
    shadow, policy = deciding.shadow, deciding.other.policy(before.policy)
    if shadow.probation is None or shadow.probation.due is not None:
        return
    shadow.probation = after = watched_on(shadow.probation, rewards, policy.mutation, fact.seq)
    if after.due is None:
        return
    found, why = concluded(after, policy.mutation)
    recorded = before.probation and watched_on(before.probation, rewards, before.policy.mutation, fact.seq)
    if found == "fallen" and not (recorded and recorded.due):
        deciding.decisions["probation"] += 1
        was = "watched on" if recorded else "not watched"
        deciding.differs(
            fact, "probation", was, f"undone: {why}", why, facts_at=(after.applied, fact.seq), to_run=_UNDO
        )


def _ended(deciding: Deciding, before: AgentState, fact: Fact, event: e.ProbationEnded) -> None:
    """Compares an end with what the other policy had come to by then."""
    deciding.decisions["probation"] += 1
    shadow, policy = deciding.shadow, deciding.other.policy(before.policy)
    probation, shadow.probation = shadow.probation, None
    was = "kept" if event.verdict == "kept" else f"undone: {event.reason}"
    if probation is None:
        would, why = "not watched", "no probation"
    elif probation.due is None:
        would, why = "watched on", f"{probation.left} outcomes left"
        if event.verdict == "kept":
            shadow.probation = probation
    else:
        found, why = concluded(probation, policy.mutation)
        would = "kept" if found == "kept" else f"undone: {why}"
    if would.partition(":")[0] == was.partition(":")[0] or deciding.last("probation", event.applied) is not None:
        return
    deciding.differs(
        fact,
        "probation",
        was,
        would,
        why,
        facts_at=(event.applied,),
        undone=(fact.seq,),
        to_run="" if event.verdict == "kept" else _WATCH,
    )


HANDLERS: dict[type, Handler] = {e.MutationApplied: _applied, e.ProbationEnded: _ended}
