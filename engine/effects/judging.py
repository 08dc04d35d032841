"""Rewarding → Planning → Idle: scores what the cycle brought, promotes or rejects, and plans what comes next."""

from __future__ import annotations

import msgspec
import numpy as np

from instar.engine.reward_model import score_checkpoint, score_mutation
from instar.engine.runtime import Runtime
from instar.fsm.events import (
    CheckpointTrained,
    EmbeddedItem,
    FeedbackReceived,
    MemoryReembedded,
    MutationApplied,
    OutcomeRewarded,
    PlanChosen,
    Reward,
    SignalEmbedded,
)
from instar.fsm.policies import promotion
from instar.fsm.react import Effect
from instar.fsm.state import AgentState, Candidate, Cycle
from instar.fsm.words import Digest, Seq
from instar.store.log import Pending

from .signals import current, signals_of


def reward(runtime: Runtime, state: AgentState, effect: Effect) -> list[Pending]:
    """Scores the cycle's outcomes; promotes a candidate that the gate admits, with its memory, or rejects it."""
    cycle = current(state)
    rewards = _outcome_rewards(runtime, cycle)
    model = runtime.reward_model.name
    if cycle.candidate is not None:
        return _judge_checkpoint(runtime, state, effect, cycle.candidate, rewards)
    if cycle.mutation is not None:
        event = runtime.reader.get(cycle.mutation).event
        passed = isinstance(event, MutationApplied)
        gate_ran = getattr(event, "exit_code", None) is not None
        earned = score_mutation(passed, gate_ran=gate_ran)
        score = Reward(cycle.mutation, "mutation", earned, "pass" if passed else "fail")
        verdict = OutcomeRewarded(
            subject="mutation",
            rewards=(*rewards, score),
            verdict="kept" if passed else "rejected",
            reason="the gate passed and the tree was applied" if passed else getattr(event, "reason", ""),
            model=model,
        )
        return [Pending(verdict, cause=effect.answers)]
    reason = "outcomes scored" if rewards else "nothing to score"
    outcome = OutcomeRewarded(subject="outcomes", rewards=rewards, verdict="none", reason=reason, model=model)
    return [Pending(outcome, cause=effect.answers)]


def _outcome_rewards(runtime: Runtime, cycle: Cycle) -> tuple[Reward, ...]:
    if cycle.embedded is None:
        return ()
    embedded = runtime.reader.get(cycle.embedded).event
    assert isinstance(embedded, SignalEmbedded)
    rows: dict[Seq, EmbeddedItem] = {item.seq: item for item in embedded.items}
    rewards = []
    for record in signals_of(runtime.reader, cycle):
        if isinstance(record.event, FeedbackReceived):
            score = runtime.reward_model.score(record.event, rows.get(record.seq))
            rewards.append(Reward(record.seq, record.event.task_type, round(score, 6), record.event.outcome))
    return tuple(rewards)


def _judge_checkpoint(
    runtime: Runtime, state: AgentState, effect: Effect, candidate: Candidate, rewards: tuple[Reward, ...]
) -> list[Pending]:
    promoted, reason = promotion(state.policy.gate, candidate)
    trained = runtime.reader.get(candidate.seq).event
    assert isinstance(trained, CheckpointTrained)
    score = Reward(candidate.seq, "retrain", round(score_checkpoint(trained.gain), 6), "pass" if promoted else "fail")
    pending = []
    if promoted:
        again = _reembed(runtime, state, candidate.checkpoint)
        pending = [Pending(again, cause=effect.answers)] if again else []
    verdict = OutcomeRewarded(
        subject="checkpoint",
        rewards=(*rewards, score),
        verdict="promoted" if promoted else "rejected",
        reason=reason,
        model=runtime.reward_model.name,
        checkpoint=candidate.checkpoint if promoted else None,
    )
    return [*pending, Pending(verdict, cause=effect.answers)]


def _reembed(runtime: Runtime, state: AgentState, space: Digest) -> MemoryReembedded | None:
    """Embeds every live row of memory in the space of the checkpoint that is to become active."""
    rows: list[tuple[Seq, int]] = []
    texts: list[str] = []
    for span in state.memory:
        for record in runtime.reader.read(span.first, span.last, [SignalEmbedded]):
            event = record.event
            if isinstance(event, SignalEmbedded) and event.texts is not None:
                texts += msgspec.json.decode(runtime.blobs.get(event.texts), type=list[str])
                placed = [(index, item.row) for index, item in enumerate(event.items) if item.row is not None]
                rows += [(record.seq, index) for index, _ in sorted(placed, key=lambda pair: pair[1])]
    if not rows:
        return None
    vectors, failures = runtime.models.embed_each(space, texts, runtime.progress, "re-embed")
    kept = [row for row, failure in enumerate(failures) if failure is None]
    content = np.ascontiguousarray(vectors[kept], dtype="<f4").tobytes()
    return MemoryReembedded(
        space=space,
        rows=tuple(rows[row] for row in kept),
        vectors=runtime.blobs.put(content),
        dim=int(vectors.shape[1]),
    )


def plan(runtime: Runtime, state: AgentState, effect: Effect) -> list[Pending]:
    """Chooses what the agent should work on next."""
    steps = runtime.planner.plan(state.standings, state.policy)
    return [Pending(PlanChosen(steps=steps, planner=runtime.planner.name), cause=effect.answers)]
