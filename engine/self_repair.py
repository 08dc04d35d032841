"""Has a patch searched for without being asked, where the gate fails on what stands (``mutation.repair_after_s``)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from instar.fsm.errors import InstarError, LogUnavailable
from instar.fsm.events import Repair, TaskQueued
from instar.fsm.policies import recent
from instar.fsm.react import react
from instar.fsm.state import AgentState
from instar.fsm.words import Digest
from instar.store.log import Pending

from .kernel import gate_on
from .progress import IDLE
from .runtime import Runtime

logger = logging.getLogger("instar.engine")

SOURCE = "worker"


def key_of(tree: Digest) -> str:
    """Names the order to repair a tree: it is given once, so that nobody and the engine undo each other for ever."""
    return f"repair:{tree}"


class SelfRepair:
    """Looks after the tree of one workspace, for its worker.

    The gate is run once on each tree that stood long enough; what is found is a mutation like any other.

    Args:
        runtime: the workspace.
        now_s: a clock that never goes back, in seconds.
    """

    def __init__(self, runtime: Runtime, now_s: Callable[[], float] = time.monotonic) -> None:
        self._runtime, self._now_s = runtime, now_s
        self._tree: Digest | None = None
        self._since_s = 0.0
        self._looked_at: Digest | None = None

    def look(self) -> bool:
        """Orders a repair if the gate fails on what has stood long enough; says whether it did.

        Raises:
            LogUnavailable: the order cannot be recorded.
        """
        after_s = self._runtime.settings.mutation.repair_after_s
        if not after_s:
            return False
        state = self._runtime.state
        tree = state.tree
        if tree != self._tree:
            self._tree, self._since_s = tree, self._now_s()
        if tree is None or tree == self._looked_at or self._now_s() - self._since_s < after_s:
            return False
        if react(state) is not None or not self._in_budget(state):
            return False
        self._looked_at = tree
        return self._runtime.reader.by_key(key_of(tree)) is None and self._fails(tree) and self._order(tree)

    def _in_budget(self, state: AgentState) -> bool:
        begun = recent(state.mutations_at_us, self._runtime.log.now_us())
        return len(begun) < state.policy.mutation.per_hour_max

    def _fails(self, tree: Digest) -> bool:
        self._runtime.progress.report("gate", note="on what stands")
        try:
            captured = gate_on(self._runtime, tree)
        except LogUnavailable:
            raise
        except InstarError as error:
            logger.warning("whether the gate passes on what stands cannot be told: %s", error)
            return False
        finally:
            self._runtime.progress.report(IDLE)
        return not captured.passed

    def _order(self, tree: Digest) -> bool:
        note = "the gate fails on what stands"
        order = TaskQueued(
            task="mutate", source=SOURCE, note=note, repair=Repair(tries=self._runtime.settings.mutators.tries)
        )
        # While the gate ran, somebody may have changed the tree.
        records = self._runtime.log.transact(lambda now: [Pending(order, key=key_of(tree))] if now.tree == tree else [])
        return bool(records)
