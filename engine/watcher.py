"""Watches the agent's own files: what the system tells is a hint, a rescan is the truth."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from msgspec.structs import replace

from instar.fsm.errors import PositionConflict
from instar.fsm.events import InputSkipped, PolicyChanged, TreeCaptured
from instar.fsm.record import Recorded
from instar.fsm.state import AgentState
from instar.fsm.words import Digest
from instar.store.log import Pending
from instar.store.tree_changes import changed

from .changes import Judged, observed
from .files.mounts import tells_changes
from .one_folder import refuse_other_worker
from .runtime import Runtime
from .trees.tree_watch import TreeWatch

logger = logging.getLogger("instar.engine")

_ATTEMPTS = 3
_DEBOUNCES_MAX = 10
_NEVER = float("-inf")
"""Under a stream of changes a capture waits for so many debounce times, and no longer."""
_IDLE_SHARE = 10
"""Where nothing tells of changes, at least so many times as long as a rescan takes lie between two."""


def rescan(runtime: Runtime, *, full: bool = False) -> list[Recorded]:
    """Looks at every file, and records what is no longer as the last recorded tree says.

    Args:
        runtime: the workspace.
        full: hash every file, whatever the stat cache vouches for.

    Raises:
        LogUnavailable: the disk is full; a scan that cannot be stored is an error, never an old tree.
        WorkerBusy: a worker of another folder works on the stream.
    """
    with runtime.files.held():
        refuse_other_worker(runtime)
        return _record(runtime, lambda: runtime.capture.look(full=full, known=runtime.state.tree))


def _record(runtime: Runtime, look: Callable[[], Digest]) -> list[Recorded]:
    for _ in range(_ATTEMPTS - 1):
        try:
            return _record_tree(runtime, look())
        except PositionConflict:  # what the tree names was collected meanwhile
            runtime.capture.distrust()
    return _record_tree(runtime, look())


def _record_tree(runtime: Runtime, tree: Digest) -> list[Recorded]:
    if tree == runtime.state.tree:
        return []
    return runtime.log.transact(lambda state: _differences(runtime, state, tree))


def _differences(runtime: Runtime, state: AgentState, tree: Digest) -> list[Pending]:
    if state.restoring or state.tree == tree:
        return []
    found = changed(runtime.capture.nodes, state.tree, tree)
    judged = Judged(state)
    monitored = state.policy.monitored
    pending = [
        Pending(observed(change.path, change.before, change.after, tree, monitored, judged)) for change in found.changes
    ]
    for path, reason in sorted(found.unmanaged.items()):
        pending.append(Pending(InputSkipped(source="watcher", subject=path, reason=reason, tree=tree)))
    return [*_rules(runtime, state), *(pending or [Pending(TreeCaptured(tree=tree))])]


def _rules(runtime: Runtime, state: AgentState) -> list[Pending]:
    """Records the rules under which a tree was captured, where they are not those that the log holds."""
    rules = runtime.settings.policy.capture
    if state.policy.capture == rules:
        return []
    return [Pending(PolicyChanged(policy=replace(state.policy, capture=rules)))]


class Watcher:
    """Says when to look, and looks at what changed, or at everything.

    Everything is looked at first of all, periodically, and whenever it is not certain that the system told of all
    changes. So no hint is ever needed for a change to be found; hints make it sooner, and cheaper.
    """

    def __init__(self, runtime: Runtime, wake: threading.Event) -> None:
        self._runtime = runtime
        self._wake = wake
        self._watch: TreeWatch | None = None
        self._covered = False
        """Whether everything was looked at since the watching began."""
        self._hinted_at = self._hinted_first_at = 0.0
        self._looked_at = 0.0
        self._scanned_at = _NEVER
        self._scan_took_s = 0.0

    def start(self) -> None:
        """Begins to be told of changes; a rescan must follow, since what changed before was not told."""
        settings, workspace = self._runtime.settings.watch, self._runtime.workspace
        if settings.mode == "polling" or (settings.mode == "auto" and not tells_changes(workspace.root)):
            logger.info("%s is polled every %s s", workspace.root, settings.poll_s)
            return
        try:
            self._watch = TreeWatch(workspace.root, workspace.cookies, self._hint)
        except (OSError, ImportError) as error:
            logger.warning("the system does not tell of changes (%s): polling every %s s", error, settings.poll_s)
            return
        self._runtime.capture.cover = self._watch.cover

    def stop(self) -> None:
        """Ends that."""
        watch, self._watch = self._watch, None
        if watch is not None:
            self._runtime.capture.cover = None
            watch.close()

    @property
    def is_told(self) -> bool:
        """Whether the system tells of changes; else they are found by polling."""
        return self._watch is not None

    def _hint(self) -> None:
        now = time.monotonic()
        if self._hinted_at <= self._looked_at:
            self._hinted_first_at = now
        self._hinted_at = now
        self._wake.set()

    def due_in(self) -> float:
        """Seconds until a look is due: the debounce time after a hint, else the rest of the period."""
        now, settings = time.monotonic(), self._runtime.settings.watch
        period = settings.rescan_s if self.is_told else max(settings.poll_s, _IDLE_SHARE * self._scan_took_s)
        due_at = self._scanned_at + period
        if self._hinted_at > self._looked_at:
            debounce = settings.debounce_ms / 1000
            due_at = min(due_at, self._hinted_at + debounce, self._hinted_first_at + _DEBOUNCES_MAX * debounce)
        return max(0.0, due_at - now)

    def look(self) -> list[Recorded]:
        """Looks at what changed if that is certain to be known, and at everything else wise or when that is due."""
        if self._watch is None or time.monotonic() >= self._scanned_at + self._runtime.settings.watch.rescan_s:
            return self.rescan()
        return self.look_at_changes()

    def look_at_changes(self) -> list[Recorded]:
        """Looks at what the system told of, once that is proved to be all; at everything if it cannot be."""
        watch = self._watch
        if watch is None:
            return self.rescan()
        with self._runtime.files.held():
            self._looked_at = time.monotonic()
            proved = watch.prove()
            dirty = watch.take()
            if not (proved and self._covered) or dirty.lost:
                return self.rescan()
            try:
                return _record(self._runtime, lambda: self._runtime.capture.look_at(dirty.paths))
            except BaseException:
                self._covered, self._scanned_at = False, _NEVER  # what was told is used up
                raise

    def rescan(self) -> list[Recorded]:
        """Looks at everything now."""
        with self._runtime.files.held():
            self._scanned_at = self._looked_at = began = time.monotonic()
            self._begin_anew()
            try:
                records = rescan(self._runtime)
                self._covered = True
                return records
            except BaseException:
                self._scanned_at = _NEVER  # or what a server could not take now would wait for the next period
                raise
            finally:
                self._scan_took_s = time.monotonic() - began

    def _begin_anew(self) -> None:
        """Drops what was told, since everything is looked at; watches anew where the watching went wrong."""
        watch = self._watch
        if watch is None:
            return
        self._covered = False
        if watch.take().lost or not watch.is_alive:
            self.stop()
            if not watch.is_refused:
                self.start()
