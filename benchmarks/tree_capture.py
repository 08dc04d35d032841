"""Capturing 10,000 real Python files against git: at first, one and 100 changed, and nothing."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path

from instar.engine.initialize import initialize
from instar.engine.runtime import Runtime
from instar.engine.watcher import Watcher, rescan
from instar.engine.workspace import HOME
from instar.fsm.events import WorkspaceInitialized
from instar.fsm.policy import Policy
from instar.store.log import create_log

from .compare import compare_seconds
from .goals import Measure, Row
from .tree_sources import Base, bases, build, edit_spread, fresh, git, has_git

_COMMIT = ("commit", "-q", "-m", "x")


def main() -> list[Row]:
    """Compares on a tmpfs and on a disk."""
    if not has_git():
        return [Row("capture of 10,000 files", "git", note="skipped: git is not installed")]
    goals: dict[tuple[str, str], list[Measure]] = {}
    for base in bases():
        with fresh(base) as folder:
            for key, measure in _on(base, folder):
                goals.setdefault(key, []).append(measure)
    return [Row(work, against, tuple(measures)) for (work, against), measures in goals.items()]


def _on(base: Base, folder: Path) -> Iterator[tuple[tuple[str, str], Measure]]:
    ours, theirs = folder / "ours", folder / "git"
    files = {root: build(root) for root in (ours, theirs)}
    time.sleep(0.1)
    first = {"instar": lambda: _first(ours), "git add -A, commit": lambda: _git_first(theirs)}
    yield _goal("first full capture", base, first, 0.2, rounds=3)
    shutil.rmtree(ours / HOME)
    initialize(ours, with_model=False)
    numbers = count()
    with _watched(ours) as (runtime, watcher):

        def changed(number: int) -> float:
            edit_spread(files[ours], number, next(numbers))
            return _timed(lambda: _recorded(watcher, number))

        def git_changed(number: int) -> float:
            edit_spread(files[theirs], number, next(numbers))
            return _timed(lambda: (git(theirs, "add", "-A"), git(theirs, *_COMMIT)))

        for number, goal in ((1, 0.05), (100, 0.2)):
            ways: dict[str, Callable[[], float]] = {
                "instar, watcher-fed": partial(changed, number),
                "git add -A, commit": partial(git_changed, number),
            }
            yield _goal(f"capture of {number} changed, watcher-fed", base, ways, goal, rounds=9)
        rescan(runtime)
        git(theirs, "status")
        time.sleep(0.1)
        rescan(runtime)
        ways = {
            "instar": lambda: _timed(lambda: rescan(runtime)),
            "git status": lambda: _timed(lambda: git(theirs, "status", "--porcelain")),
        }
        yield _goal("rescan that finds nothing", base, ways, 1.5, rounds=15)


def _goal(
    work: str, base: Base, ways: dict[str, Callable[[], float]], goal: float, rounds: int
) -> tuple[tuple[str, str], Measure]:
    medians = list(compare_seconds(f"{work}, {base.name}", ways, rounds=rounds).values())
    return (work, list(ways)[-1]), Measure(medians[0] / medians[-1], goal, at_most=True, what=base.name)


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _recorded(watcher: Watcher, count: int) -> None:
    records = watcher.look_at_changes()
    assert len(records) == count, f"{len(records)} changes were recorded in place of {count}"


@contextmanager
def _watched(root: Path) -> Iterator[tuple[Runtime, Watcher]]:
    runtime = Runtime(root, actor="bench")
    watcher = Watcher(runtime, threading.Event())
    watcher.start()
    watcher.rescan()
    try:
        yield runtime, watcher
    finally:
        watcher.stop()
        runtime.close()


def _first(root: Path) -> float:
    """From an empty log to a durable first event; git's empty repository is made beforehand too."""
    shutil.rmtree(root / HOME, ignore_errors=True)
    (root / HOME).mkdir()
    create_log(root / HOME / "log.db")
    runtime = Runtime(root, actor="bench")

    def capture() -> None:
        with runtime.files.held():
            tree = runtime.capture.look(full=True)
            runtime.log.append(
                WorkspaceInitialized(workspace="b", engine="b", tree=tree, checkpoint=None, model="", policy=Policy())
            )

    took = _timed(capture)
    runtime.close()
    return took


def _git_first(root: Path) -> float:
    shutil.rmtree(root / ".git", ignore_errors=True)
    git(root, "init", "-q")
    return _timed(lambda: (git(root, "add", "-A"), git(root, *_COMMIT)))
