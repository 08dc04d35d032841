"""Watches the agent's own files: watchdog's events are hints, a rescan is the truth."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from instar.fsm.events import InputSkipped
from instar.fsm.record import Recorded
from instar.fsm.state import AgentState
from instar.store.log import Pending
from instar.store.trees import Tree, changes, read_tree, write_tree

from .changes import observed
from .runtime import Runtime

if TYPE_CHECKING:
    from watchdog.events import FileSystemEvent

logger = logging.getLogger("instar.engine")

_MOVING = {"created", "modified", "moved", "deleted"}
_OWN = (".instar", ".git", "__pycache__")


def rescan(runtime: Runtime, *, full: bool = False) -> list[Recorded]:
    """Looks at every file, and records what is no longer as the last recorded tree says.

    Args:
        runtime: the workspace.
        full: hash every file, whatever the stat cache vouches for.

    Raises:
        LogUnavailable: the disk is full; a scan that cannot be stored is an error, never an old tree.
    """
    with runtime.files.held():
        tree = runtime.capture.scan(full=full)
        digest = write_tree(runtime.blobs, tree)
        if digest == runtime.state.tree:
            return []
        return runtime.log.transact(lambda state: _differences(runtime, state, tree))


def _differences(runtime: Runtime, state: AgentState, tree: Tree) -> list[Pending]:
    if state.restoring:
        return []
    digest = write_tree(runtime.blobs, tree)
    old = read_tree(runtime.blobs, state.tree) if state.tree else Tree({})
    judged = set(state.judged)
    monitored = state.policy.monitored
    pending = [
        Pending(observed(change.path, change.before, change.after, digest, monitored, judged))
        for change in changes(old, tree)
    ]
    for path, reason in sorted(tree.unmanaged.items()):
        if old.unmanaged.get(path) != reason:
            pending.append(Pending(InputSkipped(source="watcher", subject=path, reason=reason, tree=digest)))
    return pending


class Watcher:
    """Says when a rescan is due: on a hint from the operating system, and periodically without one.

    watchdog can miss changes (an overflow of its queue is only a line in a log), so no hint is ever needed for a change
    to be found; hints only make it sooner.
    """

    def __init__(self, runtime: Runtime, wake: threading.Event) -> None:
        self._runtime = runtime
        self._wake = wake
        self._hinted_at = 0.0
        self._scanned_at = 0.0
        self._observer: object | None = None

    def start(self) -> None:
        """Starts the observer; a rescan must follow, since what changed before was not seen."""
        from watchdog.events import FileSystemEventHandler
        from watchdog.observers import Observer

        watcher = self

        class Hints(FileSystemEventHandler):
            def on_any_event(self, event: FileSystemEvent) -> None:
                watcher._hint(event)

        observer = Observer()
        observer.daemon = True
        try:
            observer.schedule(Hints(), str(self._runtime.workspace.root), recursive=True)
            observer.start()
        except OSError as error:
            logger.warning("no watching by the system (%s): rescans every %s s", error, self._period_s)
            return
        self._observer = observer

    @property
    def _period_s(self) -> float:
        return self._runtime.settings.watch.rescan_s

    def _hint(self, event: FileSystemEvent) -> None:
        if event.event_type not in _MOVING:
            return
        root = self._runtime.workspace.root
        for raw in (event.src_path, event.dest_path):
            text = raw.decode("utf-8", "surrogateescape") if isinstance(raw, bytes) else raw
            if text and Path(text).is_relative_to(root):
                parts = Path(text).relative_to(root).parts
                if not (parts and (parts[0] in _OWN or "__pycache__" in parts)):
                    self._hinted_at = time.monotonic()
                    self._wake.set()

    def due_in(self) -> float:
        """Seconds until a rescan is due: the debounce time after a hint, else the rest of the period."""
        now = time.monotonic()
        period = self._scanned_at + self._period_s - now
        if self._hinted_at > self._scanned_at:
            return max(0.0, min(period, self._hinted_at + self._runtime.settings.watch.debounce_ms / 1000 - now))
        return max(0.0, period)

    def rescan(self) -> list[Recorded]:
        """Scans now."""
        self._scanned_at = time.monotonic()
        return rescan(self._runtime)

    def stop(self) -> None:
        """Stops the observer."""
        observer = self._observer
        if observer is not None:
            observer.stop()  # type: ignore[attr-defined]
            observer.join(timeout=5)  # type: ignore[attr-defined]
