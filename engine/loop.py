"""The loop: fold, run the one effect that the state owes, record its outcome, again.

The log alone drives it. A process that is killed anywhere leaves a log whose state still owes the effect; whoever
starts next runs it; one that takes its worker with it again and again is recorded as failed (``beginnings``). An
outcome is recorded only if the state still owes it, and under a key that names the event it answers: no result is
recorded twice.
"""

from __future__ import annotations

import errno
import logging
import traceback
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from instar.fsm.codec import encode_event
from instar.fsm.errors import (
    EffectCancelled,
    EffectFailedError,
    EffectSuspended,
    ExtensionFailed,
    IllegalTransition,
    InstarError,
    LogCorrupt,
    LogUnavailable,
    PositionConflict,
    WorkerBusy,
)
from instar.fsm.events import CheckpointTrained, EffectFailed, OutcomeRewarded
from instar.fsm.policies import failure_is_final
from instar.fsm.react import Effect, EffectName, react
from instar.fsm.record import Recorded
from instar.fsm.state import AgentState
from instar.fsm.words import Seq
from instar.store.failpoints import failpoint
from instar.store.log import Pending
from instar.store.naming import digests_of

from .audit import write_audit
from .beginnings import Beginning
from .extension_calls import error_text, recordable
from .progress import IDLE
from .runtime import Runtime
from .shell_executor import Terminated

logger = logging.getLogger("instar.engine")

Perform = Callable[[Runtime, AgentState, Effect], list[Pending]]
Listener = Callable[[Recorded], None]


def performer(name: EffectName) -> Perform:
    """Finds the code of an effect; what only some effects need is imported only then."""
    match name:
        case EffectName.START_CYCLE | EffectName.DIFF:
            from .effects import diffing

            return diffing.start_cycle if name is EffectName.START_CYCLE else diffing.diff
        case EffectName.EMBED:
            from .effects import embedding

            return embedding.embed
        case EffectName.FLAG | EffectName.GENERATE | EffectName.TRAIN:
            from .effects import learning

            steps = {
                EffectName.FLAG: learning.flag,
                EffectName.GENERATE: learning.generate_dataset,
                EffectName.TRAIN: learning.train,
            }
            return steps[name]
        case EffectName.REWARD | EffectName.PLAN:
            from .effects import judging

            return judging.reward if name is EffectName.REWARD else judging.plan
        case EffectName.MUTATE:
            from . import mutation_daemon

            return mutation_daemon.mutate
        case EffectName.ROLL_FORWARD | EffectName.END_PROBATION:
            raise AssertionError(f"{name} holds the lock on the agent's files, and records what it does itself")


class Loop:
    """Runs what the log owes, one effect at a time.

    Args:
        runtime: the workspace.
        listener: called with each event that the loop recorded.
    """

    def __init__(self, runtime: Runtime, listener: Listener | None = None) -> None:
        self._runtime = runtime
        self._listener = listener
        self._audit_fault: str | None = None

    def step(self) -> bool:
        """Runs the effect that is owed now, if any, and records its outcome.

        Returns:
            False when nothing is owed.

        Raises:
            LogUnavailable: the outcome cannot be recorded; the effect stays owed.
            LogCorrupt: the log or a blob is damaged.
            EffectSuspended: the worker is to end; the effect stays owed, and what is done of it is kept.
        """
        state = self._runtime.state
        effect = react(state)
        if effect is None:
            return False
        failpoint(f"{effect.name}.owed")
        self._runtime.progress.report(effect.name)
        if effect.name is EffectName.ROLL_FORWARD:
            from .restoring.rollback import finish_begun

            finish_begun(self._runtime)
        elif effect.name is EffectName.END_PROBATION:
            from .effects.probation import end_probation

            self._tell(end_probation(self._runtime))
        else:
            self._perform(state, effect)
        return True

    def _perform(self, state: AgentState, effect: Effect) -> None:
        beginning = Beginning(self._runtime.workspace, effect)
        erased = self._runtime.reader.last_erasure()
        with beginning.counted():
            pending = self._outcome(state, effect, beginning)
            failpoint(f"{effect.name}.done")
            self._record(effect, pending, erased)
            failpoint(f"{effect.name}.recorded")

    def _outcome(self, state: AgentState, effect: Effect, beginning: Beginning) -> list[Pending]:
        try:
            beginning.check()
            pending = performer(effect.name)(self._runtime, state, effect)
            for one in pending:
                encode_event(one.event)  # what cannot be recorded is a failure of the effect that brought it
            return pending
        except (LogUnavailable, LogCorrupt, WorkerBusy, EffectSuspended):
            raise
        except SystemExit as error:
            if isinstance(error, Terminated):
                raise
            told = EffectFailedError(
                f"a plugin or a library called sys.exit({error.code!r}) in {effect.name}: have it raise an error that "
                "says why, or set [plugins] to builtin."
            )
            return [Pending(_failure(effect, told), cause=effect.answers)]
        except Exception as error:
            if _is_full(error):  # to do it again is of no use before there is room, and no fault of the effect
                raise LogUnavailable(
                    f"the disk is full: {error}. {effect.name} for event {effect.answers} stays owed; make room, "
                    "and the next run does it."
                ) from error
            if effect.name is EffectName.START_CYCLE:
                raise
            failure = _failure(effect, error)
            logger.warning("effect %s failed: %s", effect.name, failure.reason)
            return [Pending(failure, cause=effect.answers)]

    def _record(self, effect: Effect, pending: Sequence[Pending], erased: Seq) -> None:
        def decide(state: AgentState) -> Sequence[Pending]:
            if self._read_what_went(effect, pending, erased):
                logger.info("%s for event %s is done again: a text was erased meanwhile", effect.name, effect.answers)
                self._runtime.blobs.withdraw(digest for one in pending for _, digest in digests_of(one.event))
                return []
            if react(state) != effect:
                logger.info("the outcome of %s for event %s came too late", effect.name, effect.answers)
                return []
            return [_final(one, state) for one in pending]

        try:
            records = self._runtime.log.transact(decide)
        except (IllegalTransition, PositionConflict) as error:
            # Somebody appended between deciding and recording; the state still owes the effect, or no longer does.
            if react(self._runtime.state) == effect and effect.name is not EffectName.START_CYCLE:
                raise
            logger.info("the outcome of %s was not taken: %s", effect.name, error)
            return
        for record in records:
            if isinstance(record.event, OutcomeRewarded) and record.event.checkpoint:
                failpoint("promoted")
                self._runtime.models.activate(record.event.checkpoint)
                self._runtime.models.forget_kept()
        self._tell(records)

    def _read_what_went(self, effect: Effect, pending: Sequence[Pending], erased: Seq) -> bool:
        """Says whether an outcome may hold what was erased since its effect began: it would bring that back.

        A training holds no text; it is lost only with the data set that it learned from, without which it then fails.
        """
        since = self._runtime.reader.last_erasure()
        if since == erased or effect.name is EffectName.MUTATE:
            return False
        if effect.name is EffectName.TRAIN:
            trained = [one.event.dataset for one in pending if isinstance(one.event, CheckpointTrained)]
            return not all(map(self._runtime.blobs.is_stored, trained))
        return True

    def _tell(self, records: Sequence[Recorded]) -> None:
        for record in records:
            if self._listener:
                self._listener(record)

    def run_until_idle(self, wanted: Callable[[], bool] = lambda: True) -> int:
        """Runs effects until nothing is owed, or until ``wanted`` says to stop.

        Returns:
            The number of effects that were run.
        """
        count = 0
        try:
            while wanted() and self.step():
                count += 1
        except EffectSuspended as error:
            logger.info("%s", error)
        if count:
            self._runtime.progress.report(IDLE)
            self._write_audit()
        return count

    def _write_audit(self) -> None:
        """Writes the audit files; what stands in their way is said once, and stops nothing."""
        fault = write_audit(self._runtime)
        if fault and fault != self._audit_fault:
            logger.warning("%s. The log holds all that it would say; it is written once that is mended.", fault)
        self._audit_fault = fault


def _is_full(error: BaseException) -> bool:
    """Says whether a full disk, or a quota that is used up, is behind an error."""
    behind: BaseException | None = error
    while behind is not None:
        if isinstance(behind, OSError) and behind.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        behind = behind.__cause__ or behind.__context__
    return False


def _failure(effect: Effect, error: Exception) -> EffectFailed:
    """Tells of a failure in words that can be recorded, whatever text the error holds."""
    behind = (
        error.__cause__ if isinstance(error, ExtensionFailed) else None if isinstance(error, InstarError) else error
    )
    return EffectFailed(
        effect=effect.name,
        reason=recordable(str(error)[:2000]) if isinstance(error, InstarError) else error_text(error),
        detail=recordable("".join(traceback.format_exception(behind))[-4000:]) if behind else "",
        cancelled=isinstance(error, EffectCancelled),
    )


def _final(one: Pending, state: AgentState) -> Pending:
    if isinstance(one.event, EffectFailed) and not one.event.cancelled and failure_is_final(state):
        return Pending(replace(one.event, final=True), cause=one.cause)
    return one
