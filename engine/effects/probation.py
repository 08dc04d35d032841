"""The end of a probation: an applied mutation is kept, or undone by the rollback machinery because a reward fell."""

from __future__ import annotations

import logging
from typing import Literal

from instar.engine.restoring.restore import read_plan
from instar.engine.restoring.rollback import carry_out
from instar.engine.restoring.rollback_plan import plan_return
from instar.engine.runtime import Runtime
from instar.fsm.decisions import Return
from instar.fsm.errors import BlobCorrupt, BlobMissing, Diverged, EffectFailedError, IllegalTransition, RollbackRefused
from instar.fsm.events import MutationAccepted, ProbationEnded
from instar.fsm.probation import concluded
from instar.fsm.record import Recorded
from instar.fsm.state import AgentState, Probation
from instar.fsm.words import Digest, Seq
from instar.store.failpoints import failpoint
from instar.store.log import Pending
from instar.store.tree_changes import changed

logger = logging.getLogger("instar.engine")

TRIES = 3
"""How often an undo is begun anew because files change while they are looked at."""


def end_probation(runtime: Runtime) -> list[Recorded]:
    """Ends the probation that was decided; gives what was recorded.

    An undo brings back the files that the mutation changed, and no other. It takes place only if nobody has changed
    them since: its beginning and the verdict are recorded together.

    Raises:
        LogUnavailable: nothing can be recorded; the probation stays due.
    """
    state = runtime.state
    probation = state.probation
    if probation is None or probation.due is None:
        return []
    found, reason = concluded(probation, state.policy.mutation)
    if found == "kept":
        return _recorded(runtime, probation, _ended(probation, "kept", reason))
    left = ""
    for _ in range(TRIES):
        try:
            left = _undo(runtime, probation, reason)
        except Diverged:
            left = "files changed again and again while they were looked at"
            continue
        except IllegalTransition as error:  # somebody else rolled back meanwhile
            logger.info("the probation of event %s was ended by others: %s", probation.applied, error)
            return []
        except (BlobMissing, BlobCorrupt, EffectFailedError, RollbackRefused) as error:
            left = str(error)
        break
    if not left:
        return list(runtime.reader.read(Seq(state.head + 1)))
    return _recorded(runtime, probation, _ended(probation, "left", f"{reason}. It could not be undone: {left}"))


def _undo(runtime: Runtime, probation: Probation, reason: str) -> str:
    """Brings the mutated files back; gives why it was left as it is, or nothing.

    Raises:
        Diverged: files change while they are looked at; nothing was moved.
        BlobMissing, BlobCorrupt, RollbackRefused, EffectFailedError: what stood there cannot be brought back.
    """
    accepted = runtime.reader.get(probation.accepted).event
    assert isinstance(accepted, MutationAccepted)
    paths = tuple(sorted({step.path for step in read_plan(runtime.blobs, accepted.plan).steps}))
    asked = Return(
        parts=("code",), paths=paths, reason=f"probation of the mutation at event {probation.applied}: {reason}"
    )
    planned = plan_return(runtime, Seq(probation.accepted - 1), asked)
    edited = _changed_since(runtime, probation, planned.tree_now, paths)
    if edited:
        return f"{', '.join(edited[:3])} changed since; `instar rollback {probation.accepted - 1}` takes that back too"
    if planned.is_empty:
        return "the files are as they were before it"
    failpoint("probation.planned")
    verdict = Pending(_ended(probation, "undone", reason), cause=probation.due)
    carry_out(runtime, planned.target, asked, seen=planned, first=verdict)
    return ""


def _changed_since(runtime: Runtime, probation: Probation, now: Digest, paths: tuple[str, ...]) -> list[str]:
    since = changed(runtime.capture.nodes, probation.tree, now).changes
    return [change.path for change in since if change.path in paths]


def _ended(probation: Probation, verdict: Literal["kept", "undone", "left"], reason: str) -> ProbationEnded:
    return ProbationEnded(applied=probation.applied, verdict=verdict, reason=reason, watched=probation.watched)


def _recorded(runtime: Runtime, probation: Probation, event: ProbationEnded) -> list[Recorded]:
    """Records the end, unless another process has ended it meanwhile."""

    def decide(now: AgentState) -> list[Pending]:
        return [Pending(event, cause=probation.due)] if now.probation == probation and not now.restoring else []

    return runtime.log.transact(decide)
