"""What is on probation while a log is read, and what rewarded outcomes since, which its end rests on."""

from __future__ import annotations

from msgspec import Struct, field

from instar.fsm import events as e
from instar.fsm.probation import SIDE_BY_SIDE_MAX, is_own
from instar.fsm.words import Digest, Seq


class Watched(Struct, kw_only=True):
    """A mutation, or a promoted checkpoint; outcomes count that follow ``since``."""

    applied: Seq
    since: Seq
    checkpoint: Digest | None = None
    rewards: list[Seq] = field(default_factory=list)

    def anew(self, at: Seq) -> Watched:
        """Gives it without what was earned before an event."""
        return Watched(applied=self.applied, since=at, checkpoint=self.checkpoint)


class Watches:
    """What the fold watches (``fsm/probation.py``), by the events that it was earned by."""

    def __init__(self) -> None:
        self._mutation: Watched | None = None
        self._checkpoints: list[Watched] = []

    def applied(self, seq: Seq, event: e.MutationApplied) -> None:
        """Takes a mutation up, in place of the one before it."""
        self._mutation = Watched(applied=seq, since=seq) if event.probation else None

    def rewarded(self, seq: Seq, event: e.OutcomeRewarded) -> None:
        """Notes what rewards outcomes that count, and takes a promoted checkpoint up beside those before it."""
        for watch in (self._mutation, *self._checkpoints):
            if watch and any(reward.seq > watch.since and not is_own(reward.task_type) for reward in event.rewards):
                watch.rewards.append(seq)
        if event.verdict == "promoted" and event.probation:
            self._checkpoints.append(Watched(applied=seq, since=seq, checkpoint=event.checkpoint))
            del self._checkpoints[:-SIDE_BY_SIDE_MAX]

    def ended(self, event: e.ProbationEnded) -> list[Seq]:
        """Gives what rewarded outcomes since, and watches it no longer."""
        if event.subject == "mutation":
            ended, self._mutation = self._mutation, None
            return ended.rewards if ended else []
        found = [watch.rewards for watch in self._checkpoints if watch.applied == event.applied]
        self._checkpoints = [watch for watch in self._checkpoints if watch.applied != event.applied]
        return found[0] if found else []

    def rolled_back(self, seq: Seq, event: e.RollbackStarted, active: Digest | None, *, after_probation: bool) -> None:
        """Forgets what a rollback leaves behind, and what was earned by what is watched anew after it.

        Args:
            seq: its position.
            event: the rollback.
            active: the checkpoint before it.
            after_probation: whether the end of a probation asked for it.
        """
        code = "code" in event.parts
        if self._mutation is not None and (code or after_probation):
            self._mutation = None if code else self._mutation.anew(seq)
        while self._checkpoints and self._checkpoints[-1].checkpoint != event.checkpoint:
            self._checkpoints.pop()
        if code or event.checkpoint != active:
            self._checkpoints = [watch.anew(seq) for watch in self._checkpoints]
