"""The probation of a mutation or a promoted checkpoint: whether what the agent earns fell since it was applied.

Each task type that had earned enough to be compared is bet on to fall: with stakes that start at 1, each outcome of
reward ``x`` multiplies them by ``1 + share * (mean - x) / (1 - mean)``, where ``mean`` is what it is expected to earn,
less the fall that is allowed. As long as it earns that much the stakes do not grow on average, so they reach ``1 / p``
with a probability of ``p`` at most, whenever one looks (Ville 1939); such bets on a bounded mean are those of
Waudby-Smith & Ramdas 2024, section 4. Several shares are bet side by side, and their average is what counts: a small
one tells of a small fall, a large one tells soon of a large one.

What it is expected to earn is its exponential mean, with four more outcomes counted in, two of 1 and two of 0 (Agresti
& Coull 1998): five passes in a row do not say that it never fails.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, Protocol, TypeVar

from msgspec.structs import replace

from .events import MutationApplied, OutcomeRewarded, RollbackStarted
from .policy import RewardPolicy
from .rewards import Standing, Standings
from .state import AgentState, CheckpointProbation, Probation, Watch
from .values import Reward, Watched
from .words import Digest, Seq

SHARES: Final = (0.2, 0.5, 0.8)
"""Of what a bet can lose at most; each is a bet of its own."""
TOLD_MAX: Final = 5
SIDE_BY_SIDE_MAX: Final = 8
"""Of mutations, and of promotions, are watched side by side: where more follow each other unproven, the first ones
stay."""
STAKE_MAX: Final = 1e300
"""What a stake comes to at most: it stays a number that JSON can hold, however many outcomes one cycle rewards."""
OWN: Final = frozenset({"retrain", "mutation"})
"""Task types of the engine itself."""

W = TypeVar("W", bound=Watch)


class Limits(Protocol):
    """What a policy says of a probation: for how long, how far a reward may fall, and how sure a fall must be."""

    @property
    def probation(self) -> int:
        """Over how many outcomes it goes."""

    @property
    def fall_max(self) -> float:
        """How far the mean of a task type may fall."""

    @property
    def p_max(self) -> float:
        """In what share of all cases chance may make a fall."""


def subject_of(watch: Watch) -> Literal["mutation", "checkpoint"]:
    """Says what is watched."""
    return "checkpoint" if isinstance(watch, CheckpointProbation) else "mutation"


def limits_of(watch: Watch, state: AgentState) -> Limits:
    """Gives what the policy of a state says of a probation."""
    return state.policy.gate if isinstance(watch, CheckpointProbation) else state.policy.mutation


def applied_on(
    watches: tuple[Probation, ...],
    event: MutationApplied,
    at: Seq,
    accepted: Seq,
    standings: Standings,
    policy: RewardPolicy,
) -> tuple[Probation, ...]:
    """Begins to watch an applied mutation, beside those before it that were not found to hold yet.

    Args:
        watches: of these.
        event: the mutation, which says whether it is watched, and whether they are watched on.
        at: its position.
        accepted: that of its MutationAccepted.
        standings: at that time.
        policy: in force there.
    """
    others = watches if event.beside else ()
    if not event.probation:
        return others
    begun = Probation(
        applied=at,
        accepted=accepted,
        tree=event.tree,
        beside=event.beside,
        left=event.probation,
        watched=_to_watch(standings, policy),
    )
    return (*others, begun)[-SIDE_BY_SIDE_MAX:]


def promoted_on(
    watches: tuple[CheckpointProbation, ...],
    event: OutcomeRewarded,
    at: Seq,
    standings: Standings,
    policy: RewardPolicy,
) -> tuple[CheckpointProbation, ...]:
    """Begins to watch a promoted checkpoint, beside those before it that were not found to hold yet.

    Args:
        watches: of these.
        event: the promotion, which says whether it is watched.
        at: its position.
        standings: with what it rewards.
        policy: in force there.
    """
    if not event.probation or event.checkpoint is None:
        return watches
    watched = _to_watch(standings, policy)
    begun = CheckpointProbation(applied=at, checkpoint=event.checkpoint, left=event.probation, watched=watched)
    return (*watches, begun)[-SIDE_BY_SIDE_MAX:]


def begun_anew(watch: W, limits: Limits, at: Seq) -> W:
    """Begins a probation again at an event: what was told before it was earned under something else as well."""
    watched = tuple(replace(one, count=0, mean=0.0, stakes=(1.0,) * len(SHARES)) for one in watch.watched)
    return replace(watch, left=limits.probation or watch.left, watched=watched, due=None, anew=at)


def _to_watch(standings: Standings, policy: RewardPolicy) -> tuple[Watched, ...]:
    """Gives every task type of the agent that earned often enough before."""
    return tuple(
        Watched(
            task_type=name,
            before=standing.mean,
            expected=_expected(standing, policy.smoothing),
            stakes=(1.0,) * len(SHARES),
        )
        for name, standing in sorted(standings.items())
        if standing.count >= policy.count_min and not is_own(name)
    )


def _expected(standing: Standing, smoothing: float) -> float:
    """Draws a mean to the middle; an exponential one is as sure as one of ``(2 - smoothing) / smoothing`` outcomes."""
    count = min(float(standing.count), (2.0 - smoothing) / smoothing)
    return (count * standing.mean + 2.0) / (count + 4.0)


def is_own(task_type: str) -> bool:
    """Says whether outcomes of a task type are the engine's own and not the agent's."""
    return task_type in OWN or task_type.startswith("engine:")


def watched_on(probation: W, rewards: Iterable[Reward], limits: Limits, at: Seq) -> W:
    """Counts in what was rewarded of the outcomes that followed what is watched.

    Args:
        probation: so far.
        rewards: of the agent's outcomes and the engine's own.
        limits: how far a reward may fall, and how sure it must be.
        at: the event that holds the rewards.
    """
    if probation.due is not None:
        return probation
    watched = {one.task_type: one for one in probation.watched}
    left = probation.left
    for reward in rewards:
        if reward.seq <= probation.since or is_own(reward.task_type):
            continue
        left -= 1
        one = watched.get(reward.task_type)
        if one is not None:
            watched[reward.task_type] = _bet(one, reward.score, limits.fall_max)
    after = replace(probation, left=max(left, 0), watched=tuple(watched.values()))
    decided = after.left == 0 or fallen(after, limits)
    return replace(after, due=at) if decided else after


def _bet(one: Watched, score: float, fall_max: float) -> Watched:
    count = one.count + 1
    mean = one.expected - fall_max
    stakes = one.stakes
    if 0.0 < mean < 1.0:  # of a mean under the allowed fall no fall can be told
        stakes = tuple(
            min(stake * (1.0 + share * (mean - score) / (1.0 - mean)), STAKE_MAX)
            for stake, share in zip(one.stakes, SHARES, strict=True)
        )
    return replace(one, count=count, mean=one.mean + (score - one.mean) / count, stakes=stakes)


def mutations_after(
    watches: tuple[Probation, ...], active: Digest | None, event: RollbackStarted, limits: Limits, at: Seq
) -> tuple[Probation, ...]:
    """Watches on what a rollback leaves: mutations that stand in what it leads to.

    They are watched anew where code or checkpoint go, which may be to blame for what was earned.

    Args:
        watches: before it.
        active: the checkpoint before it.
        event: the rollback.
        limits: under which they are watched.
        at: its position.
    """
    if "code" in event.parts:
        watches = tuple(watch for watch in watches if watch.beside and watch.accepted <= event.target)
    elif event.checkpoint == active:
        return watches
    return tuple(begun_anew(watch, limits, at) if watch.beside else watch for watch in watches)


def checkpoints_after(
    watches: tuple[CheckpointProbation, ...], active: Digest | None, event: RollbackStarted, limits: Limits, at: Seq
) -> tuple[CheckpointProbation, ...]:
    """Watches on what a rollback leaves: promotions up to that of the checkpoint that is active after it.

    They are watched anew where code or checkpoint go, which may be to blame for what was earned.

    Args:
        watches: before it.
        active: the checkpoint before it.
        event: the rollback.
        limits: under which they are watched.
        at: its position.
    """
    left = watches
    while left and left[-1].checkpoint != event.checkpoint:
        left = left[:-1]
    if event.checkpoint == active and "code" not in event.parts:
        return left
    return tuple(begun_anew(watch, limits, at) for watch in left)


def fallen(probation: Watch, limits: Limits) -> tuple[Watched, ...]:
    """Gives the task types whose reward surely fell by more than it may, the surest first.

    All of them share ``p_max`` (Bonferroni).
    """
    found = [one for one in probation.watched if stake_of(one) * limits.p_max >= len(probation.watched)]
    return tuple(sorted(found, key=lambda one: (-stake_of(one), one.task_type)))


def stake_of(one: Watched) -> float:
    """Gives what the bets on the fall of a task type have come to, on average."""
    return sum(one.stakes) / len(one.stakes)


def concluded(probation: Watch, limits: Limits) -> tuple[Literal["kept", "fallen"], str]:
    """Says what came of a probation that was decided, and why."""
    found = fallen(probation, limits)
    if found:
        return "fallen", f"reward fell by more than {limits.fall_max:g}: {_told(found)}"
    seen = tuple(one for one in probation.watched if one.count)
    if not seen:
        return "kept", "no task type that could be compared had an outcome"
    return "kept", f"no reward fell for sure by more than {limits.fall_max:g}: {_told(seen)}"


def _told(watched: tuple[Watched, ...]) -> str:
    return "; ".join(
        f"{one.task_type} {one.before:.2f} → {one.mean:.2f} over {one.count} outcomes" for one in watched[:TOLD_MAX]
    )
