"""What is on probation while a log is read, and what rewarded outcomes since, which its end rests on."""

from __future__ import annotations

from msgspec import Struct, field
from msgspec.structs import replace

from instar.fsm import events as e
from instar.fsm.probation import SIDE_BY_SIDE_MAX, is_own
from instar.fsm.words import ORIGIN, Digest, Seq


class Watched(Struct, kw_only=True):
    """A mutation, or a promoted checkpoint; outcomes count that follow ``since``.

    ``accepted`` and ``beside`` are what the fold has of a mutation (``fsm/state.py``).
    """

    applied: Seq
    since: Seq
    checkpoint: Digest | None = None
    accepted: Seq = ORIGIN
    beside: bool = False
    rewards: list[Seq] = field(default_factory=list)

    def anew(self, at: Seq) -> Watched:
        """Gives it without what was earned before an event."""
        return replace(self, since=at, rewards=[])


class Watches:
    """What the fold watches (``fsm/probation.py``), by the events that it was earned by."""

    def __init__(self) -> None:
        self._mutations: list[Watched] = []
        self._checkpoints: list[Watched] = []

    def applied(self, seq: Seq, accepted: Seq, event: e.MutationApplied) -> None:
        """Takes a mutation up, beside those before it or in their place."""
        if not event.beside:
            self._mutations = []
        if event.probation:
            self._mutations.append(Watched(applied=seq, since=seq, accepted=accepted, beside=event.beside))
            del self._mutations[:-SIDE_BY_SIDE_MAX]

    def rewarded(self, seq: Seq, event: e.OutcomeRewarded) -> None:
        """Notes what rewards outcomes that count, and takes a promoted checkpoint up beside those before it."""
        for watch in (*self._mutations, *self._checkpoints):
            if any(reward.seq > watch.since and not is_own(reward.task_type) for reward in event.rewards):
                watch.rewards.append(seq)
        if event.verdict == "promoted" and event.probation:
            self._checkpoints.append(Watched(applied=seq, since=seq, checkpoint=event.checkpoint))
            del self._checkpoints[:-SIDE_BY_SIDE_MAX]

    def ended(self, event: e.ProbationEnded) -> list[Seq]:
        """Gives what rewarded outcomes since, and watches it no longer."""
        watches = (*self._mutations, *self._checkpoints)
        self._mutations = [watch for watch in self._mutations if watch.applied != event.applied]
        self._checkpoints = [watch for watch in self._checkpoints if watch.applied != event.applied]
        return next((watch.rewards for watch in watches if watch.applied == event.applied), [])

    def rolled_back(self, seq: Seq, event: e.RollbackStarted, active: Digest | None, *, after_probation: bool) -> None:
        """Forgets what a rollback leaves behind, and what was earned by what is watched anew after it.

        Args:
            seq: its position.
            event: the rollback.
            active: the checkpoint before it.
            after_probation: whether the end of a probation asked for it.
        """
        code, other = "code" in event.parts, event.checkpoint != active
        if code:
            self._mutations = [one for one in self._mutations if one.beside and one.accepted <= event.target]
        if code or other or after_probation:
            self._mutations = [one.anew(seq) if one.beside or after_probation else one for one in self._mutations]
        while self._checkpoints and self._checkpoints[-1].checkpoint != event.checkpoint:
            self._checkpoints.pop()
        if code or other:
            self._checkpoints = [watch.anew(seq) for watch in self._checkpoints]
