"""The end of a probation: what was applied is kept, or undone by the rollback machinery because a reward fell."""

from __future__ import annotations

import logging
from typing import Literal

from instar.engine.restoring.restore import read_plan
from instar.engine.restoring.rollback import carry_out
from instar.engine.restoring.rollback_plan import RollbackPlan, plan_return
from instar.engine.runtime import Runtime
from instar.fsm.decisions import Return
from instar.fsm.errors import BlobCorrupt, BlobMissing, Diverged, EffectFailedError, IllegalTransition, RollbackRefused
from instar.fsm.events import MutationAccepted, ProbationEnded
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
        planned = _plan_files(runtime, watch, told)
        paths = planned.asked.paths
        edited = _changed_since(runtime, watch, planned.tree_now, paths)
        if edited:
            return f"{', '.join(edited[:3])} changed since; `instar rollback {planned.target}` takes that back too"
        if planned.is_empty:
            return "the files are as they were before it"
    failpoint("probation.planned")
    verdict = Pending(_ended(watch, "undone", reason), cause=watch.due)
    carry_out(runtime, planned.target, planned.asked, seen=planned, first=verdict)
    return ""


def _plan_files(runtime: Runtime, probation: Probation, told: str) -> RollbackPlan:
    """Plans to bring back the files that a mutation changed."""
    accepted = runtime.reader.get(probation.accepted).event
    assert isinstance(accepted, MutationAccepted)
    paths = tuple(sorted({step.path for step in read_plan(runtime.blobs, accepted.plan).steps}))
    asked = Return(parts=("code",), paths=paths, reason=told)
    return plan_return(runtime, Seq(probation.accepted - 1), asked)


def _changed_since(runtime: Runtime, probation: Probation, now: Digest, paths: tuple[str, ...]) -> list[str]:
    since = changed(runtime.capture.nodes, probation.tree, now).changes
    return [change.path for change in since if change.path in paths]


def _ended(watch: Watch, verdict: Literal["kept", "undone", "left"], reason: str) -> ProbationEnded:
    return ProbationEnded(
        applied=watch.applied, verdict=verdict, reason=reason, watched=watch.watched, subject=subject_of(watch)
    )


def _recorded(runtime: Runtime, watch: Watch, event: ProbationEnded) -> list[Recorded]:
    """Records the end, unless another process has ended it meanwhile."""

    def decide(now: AgentState) -> list[Pending]:
        return [Pending(event, cause=watch.due)] if now.due == watch and not now.restoring else []

    return runtime.log.transact(decide)
