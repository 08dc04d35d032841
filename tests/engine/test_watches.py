"""What the end of a probation rests on: what the fold counted, and nothing of what a rollback took away."""

from __future__ import annotations

from instar.engine.provenance.watches import Watches
from instar.fsm import events as e
from instar.fsm.probation import SIDE_BY_SIDE_MAX
from instar.fsm.words import Digest, Seq, digest_of

BASE, FIRST = digest_of(b"base"), digest_of(b"first")


def rewarded(*seqs: int, promoted: Digest | None = None) -> e.OutcomeRewarded:
    return e.OutcomeRewarded(
        subject="checkpoint" if promoted else "outcomes",
        rewards=tuple(e.Reward(Seq(seq), "find", 0.0, "fail") for seq in seqs),
        verdict="promoted" if promoted else "none",
        reason="r",
        model="b",
        checkpoint=promoted,
        probation=64 if promoted else None,
    )


def back(checkpoint: Digest, *parts: e.Part) -> e.RollbackStarted:
    return e.RollbackStarted(
        target=Seq(1), plan=BASE, tree=BASE, checkpoint=checkpoint, memory=(), reason="r", parts=parts
    )


def ended(applied: int) -> e.ProbationEnded:
    return e.ProbationEnded(applied=Seq(applied), verdict="kept", reason="r", watched=(), subject="checkpoint")


def test_promotions_that_were_rolled_back_take_no_place_of_those_that_stay() -> None:
    watches = Watches()
    watches.rewarded(Seq(10), rewarded(promoted=FIRST))
    watches.rewarded(Seq(12), rewarded(11))
    for n in range(SIDE_BY_SIDE_MAX):
        other = digest_of(str(n).encode())
        watches.rewarded(Seq(20 + n), rewarded(promoted=other))
        watches.rolled_back(Seq(40), back(FIRST, "checkpoint"), other, after_probation=False)
    watches.rewarded(Seq(50), rewarded(45))
    assert watches.ended(ended(10)) == [50]


def test_what_rewards_outcomes_of_before_it_began_anew_is_not_among_it() -> None:
    watches, other = Watches(), digest_of(b"other")
    watches.rewarded(Seq(10), rewarded(promoted=FIRST))
    watches.rewarded(Seq(20), rewarded(promoted=other))
    watches.rolled_back(Seq(40), back(FIRST, "checkpoint"), other, after_probation=True)
    watches.rewarded(Seq(50), rewarded(30))
    watches.rewarded(Seq(52), rewarded(51))
    assert watches.ended(ended(10)) == [52]
