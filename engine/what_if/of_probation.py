"""Decisions on probations under another policy: how long a mutation is watched, and which fall undoes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from instar.fsm import events as e
from instar.fsm.probation import (
    W,
    applied_on,
    begun_anew,
    checkpoints_after,
    concluded,
    limits_of,
    mutations_after,
    promoted_on,
    watched_on,
)
from instar.fsm.state import AgentState, Watch

if TYPE_CHECKING:
    from instar.engine.replay.facts import Fact

    from .deciding import Deciding, Handler

_UNDO = "an undo would have to be tried, and what the agent then earns is not known"
_WATCH = "whether it is kept would show in outcomes that came after it was undone"


def _applied(deciding: Deciding, before: AgentState, fact: Fact, event: e.MutationApplied) -> None:
    """Begins to watch, unless the version of the event watched none, or the mutation would not have been tried."""
    shadow, policy = deciding.shadow, deciding.other.policy(before.policy)
    outcomes = None if event.probation is None or shadow.refused else policy.mutation.probation
    assert fact.cause is not None
    shadow.mutation_probations = applied_on(
        shadow.mutation_probations,
        replace(event, probation=outcomes),
        fact.seq,
        fact.cause,
        shadow.standings,
        policy.reward,
    )


def watch_promoted(
    deciding: Deciding, before: AgentState, fact: Fact, event: e.OutcomeRewarded, *, would: bool
) -> None:
    """Begins to watch a checkpoint, unless the version of the event watched none, or it would not be promoted."""
    shadow, policy = deciding.shadow, deciding.other.policy(before.policy)
    outcomes = policy.gate.probation if would and event.probation is not None else None
    shadow.checkpoint_probations = promoted_on(
        shadow.checkpoint_probations, replace(event, probation=outcomes), fact.seq, shadow.standings, policy.reward
    )


def watch_after(deciding: Deciding, before: AgentState, fact: Fact, event: e.RollbackStarted) -> None:
    """Ends or begins anew what the recorded rollback does."""
    shadow, policy = deciding.shadow, deciding.other.policy(before.policy)
    shadow.mutation_probations = mutations_after(
        shadow.mutation_probations, before.checkpoint, event, policy.mutation, fact.seq
    )
    shadow.checkpoint_probations = checkpoints_after(
        shadow.checkpoint_probations, before.checkpoint, event, policy.gate, fact.seq
    )


def count_in(deciding: Deciding, before: AgentState, fact: Fact, rewards: Sequence[e.Reward]) -> None:
    """Counts rewards in; tells of what would be undone on them while it was watched on."""
    shadow, other = deciding.shadow, deciding.other.state(before, deciding.shadow)

    def counted(watch: W) -> W:
        after = watched_on(watch, rewards, limits_of(watch, other), fact.seq)
        if watch.due is None and after.due is not None:
            _decided(deciding, before, fact, rewards, after)
        return after

    shadow.mutation_probations = tuple(counted(watch) for watch in shadow.mutation_probations)
    shadow.checkpoint_probations = tuple(counted(watch) for watch in shadow.checkpoint_probations)


def _decided(deciding: Deciding, before: AgentState, fact: Fact, rewards: Sequence[e.Reward], after: Watch) -> None:
    found, why = concluded(after, limits_of(after, deciding.other.state(before, deciding.shadow)))
    watches = (*before.mutation_probations, *before.checkpoint_probations)
    recorded = [one for one in watches if one.applied == after.applied]
    if found == "fallen" and not any(
        watched_on(one, rewards, limits_of(one, before), fact.seq).due is not None for one in recorded
    ):
        deciding.decisions["probation"] += 1
        was = "watched on" if recorded else "not watched"
        deciding.differs(
            fact, "probation", was, f"undone: {why}", why, facts_at=(after.applied, fact.seq), to_run=_UNDO
        )


def _ended(deciding: Deciding, before: AgentState, fact: Fact, event: e.ProbationEnded) -> None:
    """Compares an end with what the other policy had come to by then."""
    deciding.decisions["probation"] += 1
    shadow, other = deciding.shadow, deciding.other.state(before, deciding.shadow)
    watches = (*shadow.mutation_probations, *shadow.checkpoint_probations)
    watch = next((one for one in watches if one.applied == event.applied), None)
    goes_on = False
    was = "kept" if event.verdict == "kept" else f"undone: {event.reason}"
    if watch is None:
        would, why = "not watched", "no probation"
    elif watch.due is None:
        would, why = "watched on", f"{watch.left} outcomes left"
        goes_on = event.verdict == "kept"
    else:
        found, why = concluded(watch, limits_of(watch, other))
        would = "kept" if found == "kept" else f"undone: {why}"
    if watch is not None and not goes_on:
        shadow.mutation_probations = tuple(one for one in shadow.mutation_probations if one is not watch)
        shadow.checkpoint_probations = tuple(one for one in shadow.checkpoint_probations if one is not watch)
    if event.subject == "checkpoint" and event.verdict == "undone":
        mutations = shadow.mutation_probations
        shadow.mutation_probations = tuple(begun_anew(one, other.policy.mutation, fact.seq) for one in mutations)
    told = any(one.decision == "probation" and one.facts_at[0] == event.applied for one in deciding.otherwise)
    if told or would.partition(":")[0] == was.partition(":")[0]:
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
