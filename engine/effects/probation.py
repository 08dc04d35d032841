"""The end of a probation: what was applied is kept, or undone by the rollback machinery because a reward fell.

With a mutation go those that were applied after it and still stand: they were tried on top of it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Literal, NamedTuple

from instar.engine.restoring.restore import read_plan
from instar.engine.restoring.rollback import carry_out
from instar.engine.restoring.rollback_plan import RollbackPlan, plan_return
from instar.engine.runtime import Runtime
from instar.fsm.decisions import Return
from instar.fsm.errors import BlobCorrupt, BlobMissing, Diverged, EffectFailedError, IllegalTransition, RollbackRefused
from instar.fsm.events import MutationAccepted, ProbationEnded, RollbackStarted
from instar.fsm.probation import concluded, limits_of, subject_of
from instar.fsm.record import Recorded
from instar.fsm.state import AgentState, CheckpointProbation, Probation, Watch
from instar.fsm.words import Digest, Seq
from instar.store.failpoints import failpoint
from instar.store.log import Pending
from instar.store.tree_changes import changed

logger = logging.getLogger("instar.engine")

TRIES = 3
"""How often an undo is begun anew because files change while they are looked at."""


def end_probation(runtime: Runtime) -> list[Recorded]:
    """Ends the probation that was decided; gives what was recorded.

    The undo of a mutation brings back the files that it changed, and no other, only if nobody has changed them since;
    that of a checkpoint the one that was active before. Its beginning and the verdict are recorded together.

    Raises:
        LogUnavailable: nothing can be recorded; the probation stays due.
    """
    state = runtime.state
    watch = state.due
    if watch is None:
        return []
    found, reason = concluded(watch, limits_of(watch, state))
    if found == "kept":
        return _recorded(runtime, watch, _ended(watch, "kept", reason))
    left = ""
    for _ in range(TRIES):
        try:
            left = _undo(runtime, watch, reason)
        except Diverged:
            left = "files changed again and again while they were looked at"
            continue
        except IllegalTransition as error:
            if runtime.state.due != watch:  # somebody else rolled back meanwhile
                logger.info("the probation of event %s was ended by others: %s", watch.applied, error)
                return []
            left = str(error)
        except (BlobMissing, BlobCorrupt, EffectFailedError, RollbackRefused) as error:
            left = str(error)
        break
    if not left:
        return list(runtime.reader.read(Seq(state.head + 1)))
    return _recorded(runtime, watch, _ended(watch, "left", f"{reason}. It could not be undone: {left}"))


def _undo(runtime: Runtime, watch: Probation | CheckpointProbation, reason: str) -> str:
    """Brings back what stood there; gives why it was left as it is, or nothing.

    Raises:
        Diverged: files change while they are looked at; nothing was moved.
        BlobMissing, BlobCorrupt, RollbackRefused, EffectFailedError: what stood there cannot be brought back.
    """
    told = f"probation of the {subject_of(watch)} at event {watch.applied}: {reason}"
    if isinstance(watch, CheckpointProbation):
        planned = plan_return(runtime, Seq(watch.applied - 1), Return(parts=("checkpoint",), reason=told))
    else:
        applied = Applied.since(runtime, watch)
        planned = _plan_files(runtime, watch, told, applied)
        edited = _edited(runtime, applied, planned.tree_now, planned.asked.paths)
        if edited:
            return f"{', '.join(edited[:3])} changed since; `instar rollback {planned.target}` takes that back too"
        if planned.is_empty:
            return "the files are as they were before it"
    failpoint("probation.planned")
    verdict = Pending(_ended(watch, "undone", reason), cause=watch.due)
    carry_out(runtime, planned.target, planned.asked, seen=planned, first=verdict)
    return ""


class Applied(NamedTuple):
    """What the engine did to the code from a mutation on.

    Attributes:
        stands: of the mutation, and of each after it that was not taken back, the MutationAccepted and what it changed.
        moves: from which tree to which, the mutation itself first; the log may hold changes by others between two.
    """

    stands: dict[Seq, frozenset[str]]
    moves: list[tuple[Digest, Digest]]

    @staticmethod
    def since(runtime: Runtime, watch: Probation) -> Applied:
        """Reads it from the log."""
        stands: dict[Seq, frozenset[str]] = {}
        stood = [(watch.accepted, stands)]
        moves = []
        records = runtime.reader.read(watch.accepted, types=[MutationAccepted, RollbackStarted])
        for record in records:
            match record.event:
                case MutationAccepted(plan=plan, tree_before=before, tree_after=after):
                    paths = frozenset(step.path for step in read_plan(runtime.blobs, plan).steps)
                    stands = {**stands, record.seq: paths}
                    moves.append((before, after))
                case RollbackStarted(tree=after) as back if "code" in back.parts:
                    then = runtime.reader.state_at(Seq(record.seq - 1)).tree
                    assert then is not None, "a rollback of code is recorded after a look at it"
                    moves.append((then, after))
                    stands = _after(back, stands, stood)
            stood.append((record.seq, stands))
        return Applied(stands, moves)

    def others(self, now: Digest) -> Iterator[tuple[Digest, Digest]]:
        """Gives from which tree to which others have changed the code since, up to the one that stands."""
        for (_, after), (before, _) in pairwise([*self.moves, (now, now)]):
            yield after, before


def _after(
    back: RollbackStarted, stands: dict[Seq, frozenset[str]], stood: Iterable[tuple[Seq, dict[Seq, frozenset[str]]]]
) -> dict[Seq, frozenset[str]]:
    """Says which mutations stand after a rollback; of paths, those that it did not bring back wholly."""
    if not back.paths:
        return [then for seq, then in stood if seq <= back.target][-1]
    within = tuple(f"{path.rstrip('/')}/" for path in back.paths)
    return {
        seq: paths
        for seq, paths in stands.items()
        if seq <= back.target or not all(f"{path}/".startswith(within) for path in paths)
    }


def _plan_files(runtime: Runtime, watch: Probation, told: str, applied: Applied) -> RollbackPlan:
    """Plans to bring back the files that a mutation, and those after it, changed."""
    later = sorted(seq for seq in applied.stands if seq != watch.accepted)
    if later:
        told += f". With it go the mutations accepted at {', '.join(map(str, later))}, which were tried on top of it"
    paths = tuple(sorted(frozenset[str]().union(*applied.stands.values())))
    return plan_return(runtime, Seq(watch.accepted - 1), Return(parts=("code",), paths=paths, reason=told))


def _edited(runtime: Runtime, applied: Applied, now: Digest, paths: tuple[str, ...]) -> list[str]:
    """Names those of some paths that others have changed since."""
    nodes = runtime.capture.nodes
    found = {change.path for before, after in applied.others(now) for change in changed(nodes, before, after).changes}
    return sorted(found.intersection(paths))


def _ended(watch: Watch, verdict: Literal["kept", "undone", "left"], reason: str) -> ProbationEnded:
    return ProbationEnded(
        applied=watch.applied, verdict=verdict, reason=reason, watched=watch.watched, subject=subject_of(watch)
    )


def _recorded(runtime: Runtime, watch: Watch, event: ProbationEnded) -> list[Recorded]:
    """Records the end, unless another process has ended it meanwhile."""

    def decide(now: AgentState) -> list[Pending]:
        return [Pending(event, cause=watch.due)] if now.due == watch and not now.restoring else []

    return runtime.log.transact(decide)
