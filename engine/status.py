"""Where machine and agent stand, read from the log alone."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from instar.fsm.errors import LogMissing
from instar.fsm.react import react
from instar.fsm.rewards import ranking
from instar.fsm.state import Watch
from instar.fsm.words import State
from instar.store.clock import SystemClock
from instar.store.reader import LogReader

from .clock_ahead import ahead_s
from .progress import read_progress
from .workspace import Workspace


class Status(Struct, frozen=True, kw_only=True):
    """A look at the head of the log.

    Attributes:
        workspace: its identifier, as the log has it.
        since: the event on which the machine entered its state.
        head: the last event.
        cycles: how many were begun so far.
        waiting: how many signals and tasks no cycle took up yet.
        owed: the effect that runs or waits to be run.
        restoring: whether a rollback was begun and not finished.
        worker: whether one runs, whoever started it.
        progress: of the effect that runs.
        tree: the code as it was captured last.
        checkpoint: the active one.
        memory_spans: how many ranges of the log are live in memory.
        rewards: where each task type stands, the best first.
        plan: what the planner chose last.
        snapshots: named points, with their events.
        retrains_suppressed: how many a budget held back.
    """

    workspace: str
    root: str
    state: State
    since: int
    head: int
    cycles: int
    waiting: int
    owed: str | None
    restoring: bool
    mutation_probations: list[dict[str, Any]]
    """The mutations that are watched, the earliest first: see ``fsm/probation.py``."""
    checkpoint_probations: list[dict[str, Any]]
    """The promoted checkpoints that are watched, the earliest first."""
    worker: bool
    progress: dict[str, Any] | None
    tree: str | None
    checkpoint: str | None
    memory_spans: int
    rewards: list[dict[str, Any]]
    plan: list[dict[str, Any]]
    snapshots: dict[str, int]
    retrains_suppressed: int
    clock_ahead_s: float
    """By how much the last event's time lies in the future; 0 where it does not."""


def worker_runs(workspace: Workspace) -> bool:
    """Says whether a worker holds the workspace, without disturbing it."""
    import fcntl

    try:
        with workspace.worker_lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def read_status(reader: LogReader, workspace: Workspace) -> Status:
    """Folds the log from its last state snapshot and says what it means."""
    import msgspec

    state = reader.state_at()
    if not state.head:
        raise LogMissing(f"the log of {workspace.root} is empty: run `instar init` once more to finish it")
    effect = react(state)
    progress = read_progress(workspace.progress)
    return Status(
        workspace=state.workspace,
        root=str(workspace.root),
        state=state.machine,
        since=state.since,
        head=state.head,
        cycles=state.cycles,
        waiting=state.waiting_count,
        owed=effect.name if effect else None,
        restoring=state.restoring is not None,
        mutation_probations=[_told(watch) for watch in state.mutation_probations],
        checkpoint_probations=[_told(watch) for watch in state.checkpoint_probations],
        worker=worker_runs(workspace),
        progress=msgspec.to_builtins(progress) if progress else None,
        tree=state.tree,
        checkpoint=state.checkpoint,
        memory_spans=len(state.memory),
        rewards=[msgspec.to_builtins(standing) for standing in ranking(state.standings)],
        plan=[msgspec.to_builtins(step) for step in state.plan],
        snapshots=dict(state.snapshots),
        retrains_suppressed=state.suppressed,
        clock_ahead_s=ahead_s(reader, SystemClock().now_us()),
    )


def _told(watch: Watch) -> dict[str, Any]:
    """Tells of what is watched: since when, over how many more outcomes, and what was earned since."""
    watched = [
        {"task_type": one.task_type, "before": one.before, "since": one.mean, "count": one.count}
        for one in watch.watched
    ]
    return {"applied": watch.applied, "left": watch.left, "watched": watched}
