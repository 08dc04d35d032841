"""Decisions on learning: the flag and its file, the seed, what is judged and promoted, the rewards, the plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from instar.engine.verdicts import outcome_rewards, plan_steps, verdict
from instar.fsm import events as e
from instar.fsm.decisions import lineage_of, progress_due, progress_key, seed_of, trigger_content
from instar.fsm.erasure import ERASED
from instar.fsm.errors import EffectFailedError, ReplayDiverged
from instar.fsm.policies import promotion
from instar.fsm.rewards import earns
from instar.fsm.state import AgentState
from instar.fsm.values import Reward
from instar.fsm.words import Seq, digest_of
from instar.store.clock import iso

from .compare import compare, difference
from .facts import Fact
from .judges import PLANNERS, REWARD_MODELS
from .on_cycle import unkeyed

if TYPE_CHECKING:
    from .decisions import Check, Decider


def _flagged(decider: Decider, before: AgentState, fact: Fact, event: e.RetrainFlagged) -> None:
    """The flag names the triggers that the fold found; its file is a function of them and of a recorded time."""
    unkeyed(fact)
    cycle = before.cycle
    triggers = cycle.triggers if cycle else ()
    compare(fact.seq, triggers, event.triggers, "triggers")
    asked = decider.facts.at(before.since, fact.seq)
    compare(fact.seq, digest_of(trigger_content(triggers, iso(asked.at_us))), event.content, "content")
    decider.taken["flags"] += 1


def _generated(_decider: Decider, _before: AgentState, fact: Fact, _event: e.DatasetGenerated) -> None:
    unkeyed(fact)


def _progressed(_decider: Decider, before: AgentState, fact: Fact, event: e.TrainingProgressed) -> None:
    """A tenth of the steps, under the key of its step: each once."""
    compare(fact.seq, progress_key(before.since, event.step), fact.key, "key")
    if not progress_due(event.step, event.steps):
        raise ReplayDiverged(fact.seq, "step", f"a tenth of {event.steps}", event.step)


def _trained(decider: Decider, before: AgentState, fact: Fact, event: e.CheckpointTrained) -> None:
    """A training begins with the active checkpoint, on the cycle's data set, from the seed of the asking event.

    What the order to train named of the recipe is in the recorded one. Weights that the order brought are the ones
    that were measured, and no others were.
    """
    unkeyed(fact)
    asked = decider.facts.at(before.since, fact.seq)
    name = event.lineage.source.removesuffix(f"_{event.base[:12]}")
    order = _order(decider, before, fact)
    brought = order.checkpoint if order is not None else None
    expected = replace(
        event,
        checkpoint=brought or event.checkpoint,
        brought=before.cycle.span.first if brought and before.cycle else None,
        steps=0 if brought else event.steps,
        base=before.checkpoint,
        dataset=before.cycle.dataset if before.cycle else None,
        seed=seed_of(asked.hash),
        lineage=lineage_of(name, event.base, event.epochs, event.before, event.after),
        replaceable=False,
        recipe={**event.recipe, **(order.recipe if order is not None else {})},
    )
    compare(fact.seq, expected, event)
    decider.taken["seeds"] += 1


def _order(decider: Decider, before: AgentState, fact: Fact) -> e.TaskQueued | None:
    """Finds the order to train, if there was one that names more than that."""
    cycle = before.cycle
    if cycle is None or not cycle.again:
        return None
    task = decider.facts.at(cycle.span.first, fact.seq).event
    return task if isinstance(task, e.TaskQueued) else None


def _reembedded(decider: Decider, before: AgentState, fact: Fact, event: e.MemoryReembedded) -> None:
    """Memory is embedded again for a candidate that the gate admits: every live row, but what could not be.

    Without a cause it is for a rollback, whose own check looks at the rows.
    """
    unkeyed(fact)
    if fact.cause is None:
        decider.taken["re-embeddings"] += 1
        return
    candidate = before.cycle.candidate if before.cycle else None
    admitted = candidate is not None and promotion(before.policy.gate, candidate)[0] == "promoted"
    compare(fact.seq, candidate.checkpoint if candidate and admitted else None, event.space, "space")
    live: list[tuple[Seq, int]] = []
    erased: set[tuple[Seq, int]] = set()
    for rows, embedded in decider.facts.embedded(before.memory):
        placed = [(item.row, index) for index, item in enumerate(embedded.items) if item.row is not None]
        live += [(rows.seq, index) for _, index in sorted(placed)]
        erased |= {(rows.seq, index) for index, item in enumerate(embedded.items) if item.failure == ERASED}
    recorded = [row for row in event.rows if row not in erased]
    known = iter(live)
    if any(row not in known for row in recorded):  # ``in`` goes on from where it stopped: a subsequence
        raise ReplayDiverged(fact.seq, "rows", "live rows of memory in order", recorded)
    if erased:
        decider.untaken["rows of memory that were erased"] += len(event.rows) - len(recorded)
    decider.taken["re-embeddings"] += 1


def _rewarded(decider: Decider, before: AgentState, fact: Fact, event: e.OutcomeRewarded) -> None:
    """What is promoted, kept or rejected, and why; and each reward, by the recorded reward model."""
    unkeyed(fact)
    cycle = before.cycle
    judged = None
    if cycle is not None and (cycle.candidate is not None or cycle.mutation is not None):
        seq = cycle.candidate.seq if cycle.candidate else cycle.mutation
        judged = decider.facts.at(seq or fact.seq, fact.seq).event
    rewards = _rewards(decider, before, fact, event)
    would = verdict(before, rewards, event.model, judged)
    if event.probation is None:  # such a version watched no checkpoint
        would = replace(would, probation=None)
    try:
        compare(fact.seq, would, event)
    except ReplayDiverged as error:
        if not error.field.startswith("rewards"):
            raise
        by = decider.judges.explained(REWARD_MODELS, event.model)
        raise ReplayDiverged(error.seq, error.field, error.expected, error.actual, by) from None
    decider.taken["verdicts"] += 1


def _rewards(decider: Decider, before: AgentState, fact: Fact, event: e.OutcomeRewarded) -> tuple[Reward, ...]:
    """Scores the cycle's outcomes again; a score that cannot be taken again is taken as recorded, and counted."""
    cycle = before.cycle
    if cycle is None or cycle.embedded is None:
        return ()
    embedded = decider.facts.at(cycle.embedded, fact.seq).event
    assert isinstance(embedded, e.SignalEmbedded)
    model = decider.judges.reward_model(event.model)
    recorded = {reward.seq: reward.score for reward in event.rewards}
    outcomes = [
        (one, one.event)
        for one in decider.signals(before)
        if isinstance(one.event, e.FeedbackReceived)
        and (earns(one.event) or one.seq in recorded)  # to an earlier version a lesson was an outcome like any other
    ]
    scored: dict[Seq, Reward] = {}
    if model is None:
        decider.untaken[f"rewards: {decider.judges.reason(REWARD_MODELS, event.model)}"] += len(outcomes)
    else:
        known = [(one.seq, outcome) for one, outcome in outcomes if not one.erased]
        decider.untaken["rewards: the outcome was erased"] += len(outcomes) - len(known)
        try:
            scored = {reward.seq: reward for reward in outcome_rewards(model, known, embedded.items)}
            decider.taken["rewards"] += len(known)
        except EffectFailedError as error:
            why = decider.judges.failed(REWARD_MODELS, event.model, error)
            decider.untaken[f"rewards: {why}"] += len(known)
    return tuple(
        scored.get(one.seq) or Reward(one.seq, outcome.task_type, recorded.get(one.seq, 0.0), outcome.outcome)
        for one, outcome in outcomes
    )


def _planned(decider: Decider, before: AgentState, fact: Fact, event: e.PlanChosen) -> None:
    """The plan is a function of the standings and the policy."""
    unkeyed(fact)
    planner = decider.judges.planner(event.planner, len(event.steps))
    if planner is None:
        decider.untaken[f"plans: {decider.judges.reason(PLANNERS, event.planner)}"] += 1
        return
    try:
        would = plan_steps(planner, before.standings, before.policy)
    except EffectFailedError as error:
        decider.untaken[f"plans: {decider.judges.failed(PLANNERS, event.planner, error)}"] += 1
        return
    found = difference(would, event.steps, "steps")
    if found is not None:
        raise ReplayDiverged(fact.seq, *found, by=decider.judges.explained(PLANNERS, event.planner))
    decider.taken["plans"] += 1


CHECKS: dict[type, Check] = {
    e.RetrainFlagged: _flagged,
    e.DatasetGenerated: _generated,
    e.TrainingProgressed: _progressed,
    e.CheckpointTrained: _trained,
    e.MemoryReembedded: _reembedded,
    e.OutcomeRewarded: _rewarded,
    e.PlanChosen: _planned,
}
