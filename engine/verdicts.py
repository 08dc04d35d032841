"""The verdict on a cycle, from recorded facts and a reward model; the effect records it, replay takes it again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from textwrap import shorten
from typing import TYPE_CHECKING, Final

import msgspec

from instar.fsm.errors import ExtensionFailed
from instar.fsm.events import (
    AnyEvent,
    CheckpointTrained,
    EmbeddedItem,
    FeedbackReceived,
    MutationApplied,
    Outcome,
    OutcomeRewarded,
    PlanStep,
    Reward,
)
from instar.fsm.policies import Promotion, promotion
from instar.fsm.policy import Policy
from instar.fsm.rewards import Standing
from instar.fsm.state import AgentState, Candidate
from instar.fsm.words import Seq

from .extension_calls import asked, error_text
from .reward_model import score_checkpoint, score_mutation

if TYPE_CHECKING:
    from .extensions import Planner, RewardModel

PLAN_BYTES_MAX: Final = 1 << 20
STEP_BYTES_MAX: Final = 1 << 10
"""How much a plan may hold, and for each task type besides: it is part of every state from then on."""

OUTCOMES: Final[dict[Promotion, Outcome]] = {"promoted": "pass", "rejected": "fail", "undecided": "skip"}
"""What a verdict on a checkpoint counts as, as the outcome of a retrain."""


def outcome_rewards(
    model: RewardModel, signals: Iterable[tuple[Seq, AnyEvent]], rows: Iterable[EmbeddedItem]
) -> tuple[Reward, ...]:
    """Scores each outcome that a cycle took up, in the order in which they were recorded.

    Args:
        model: the reward model.
        signals: the cycle's signals with their positions, those that earn nothing left out.
        rows: the rows of memory that the cycle brought.

    Raises:
        ExtensionFailed: the reward model raised an error, or a score is no number in 0..1.
    """
    by_seq: Mapping[Seq, EmbeddedItem] = {item.seq: item for item in rows}
    return tuple(
        Reward(seq, event.task_type, round(_scored(model, seq, event, by_seq.get(seq)), 6), event.outcome)
        for seq, event in signals
        if isinstance(event, FeedbackReceived)
    )


def _scored(model: RewardModel, seq: Seq, outcome: FeedbackReceived, item: EmbeddedItem | None) -> float:
    who = f"the reward model {model.name}"
    score: object = asked(who, lambda: model.score(outcome, item))
    number = asked(who, lambda: float(score)) if isinstance(score, Real) else None
    if number is None or not 0.0 <= number <= 1.0:  # also what is no number
        raise ExtensionFailed(
            f"{who} gave {asked(who, lambda: shorten(repr(score), 80))} for event {seq}; a score is a number in "
            "0 … 1. Mend it, or set plugins.reward_model to builtin."
        )
    return number


def plan_steps(planner: Planner, standings: Mapping[str, Standing], policy: Policy) -> tuple[PlanStep, ...]:
    """Asks a planner what the agent should work on next.

    Raises:
        ExtensionFailed: it raised an error, or gave what is no plan.
    """
    who = f"the planner {planner.name}"
    steps: Sequence[object] = asked(who, lambda: tuple(planner.plan(standings, policy)))
    try:
        written = msgspec.json.encode(steps)
        plan = msgspec.json.decode(written, type=tuple[PlanStep, ...])
    except Exception as error:  # as what it gave raises, and as the encoder does
        raise ExtensionFailed(
            f"{who} gave what is no plan: {error_text(error)}; it gives a PlanStep for each task type. "
            "Mend it, or set plugins.planner to builtin."
        ) from error
    if len(written) > PLAN_BYTES_MAX + STEP_BYTES_MAX * len(standings):
        raise ExtensionFailed(
            f"{who} gave a plan of {len(written)} bytes for {len(standings)} task types; a plan holds up to "
            f"{PLAN_BYTES_MAX} and {STEP_BYTES_MAX} a task type. Mend it, or set plugins.planner to builtin."
        )
    return plan


def verdict(
    state: AgentState, rewards: tuple[Reward, ...], model: str, judged: AnyEvent | None = None
) -> OutcomeRewarded:
    """Judges what a cycle brought: its candidate checkpoint, else its mutation, else its outcomes alone.

    Args:
        state: the state in Rewarding.
        rewards: of the cycle's outcomes.
        model: the name of the reward model.
        judged: the CheckpointTrained, or what became of the mutation.
    """
    cycle = state.cycle
    if cycle is not None and cycle.candidate is not None and isinstance(judged, CheckpointTrained):
        return _on_checkpoint(state, cycle.candidate, rewards, model, judged)
    if cycle is not None and cycle.mutation is not None and judged is not None:
        return _on_mutation(cycle.mutation, rewards, model, judged)
    reason = "outcomes scored" if rewards else "nothing to score"
    return OutcomeRewarded(subject="outcomes", rewards=rewards, verdict="none", reason=reason, model=model)


def _on_checkpoint(
    state: AgentState, candidate: Candidate, rewards: tuple[Reward, ...], model: str, trained: CheckpointTrained
) -> OutcomeRewarded:
    found, reason = promotion(state.policy.gate, candidate)
    sure = round(score_checkpoint(trained.gain, trained.gain_level), 6)
    score = Reward(candidate.seq, "retrain", sure, OUTCOMES[found])
    return OutcomeRewarded(
        subject="checkpoint",
        rewards=(*rewards, score),
        verdict=found,
        reason=reason,
        model=model,
        checkpoint=candidate.checkpoint if found == "promoted" else None,
        probation=state.policy.gate.probation if found == "promoted" else None,
    )


def _on_mutation(seq: Seq, rewards: tuple[Reward, ...], model: str, event: AnyEvent) -> OutcomeRewarded:
    passed = isinstance(event, MutationApplied)
    gate_ran = getattr(event, "exit_code", None) is not None
    score = Reward(seq, "mutation", score_mutation(passed, gate_ran=gate_ran), "pass" if passed else "fail")
    return OutcomeRewarded(
        subject="mutation",
        rewards=(*rewards, score),
        verdict="kept" if passed else "rejected",
        reason="the gate passed and the tree was applied" if passed else getattr(event, "reason", ""),
        model=model,
    )
