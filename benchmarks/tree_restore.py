"""Restoring of 10,000 real Python files against git, and of a checkpoint against copying its file."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from itertools import count, cycle
from pathlib import Path
from typing import TypeVar

from instar.engine.initialize import initialize
from instar.engine.restoring.restore_path import copy_to
from instar.engine.restoring.rollback import roll_back
from instar.engine.runtime import Runtime
from instar.engine.watcher import rescan
from instar.fsm.values import Part

from .compare import compare_seconds
from .goals import Measure, Row, absent
from .tree_sources import Base, bases, build, edit_spread, fresh, git, has_git, settle

CHANGED = 100
_KEPT = {".instar", ".git"}
T = TypeVar("T")


def main() -> list[Row]:
    """Compares on a tmpfs and on a disk."""
    if not has_git():
        return [Row("restore of 10,000 files", "git", note="skipped: git is not installed")]
    goals: dict[tuple[str, str], list[Measure]] = {}
    for base in bases():
        with fresh(base) as folder:
            for key, measure in _on(base, folder):
                goals.setdefault(key, []).append(measure)
    rows = [Row(work, against, tuple(measures)) for (work, against), measures in goals.items()]
    return [*rows, checkpoint_row()]


def _on(base: Base, folder: Path) -> Iterator[tuple[tuple[str, str], Measure]]:
    ours, theirs = folder / "ours", folder / "git"
    files = {root: build(root) for root in (ours, theirs)}
    time.sleep(0.1)
    initialize(ours, with_model=False)
    runtime = Runtime(ours, actor="bench")
    git(theirs, "init", "-q")
    git(theirs, "add", "-A")
    git(theirs, "commit", "-q", "-m", "first")
    numbers = count()

    def back() -> float:
        edit_spread(files[ours], CHANGED, next(numbers))
        rescan(runtime)
        time.sleep(0.1)
        done, seconds = _timed(lambda: roll_back(runtime, 1))
        assert done.changed > 0.95 * CHANGED, "a few lie in folders that are ignored"
        return seconds

    def git_back() -> float:
        edit_spread(files[theirs], CHANGED, next(numbers))
        git(theirs, "add", "-A")
        git(theirs, "commit", "-q", "-m", "next")
        time.sleep(0.1)
        return _timed(lambda: git(theirs, "reset", "-q", "--hard", "HEAD~1"))[1]

    ways = {"instar, fsynced, safety snapshot": back, "git reset --hard, unsynced": git_back}
    yield _goal(f"rollback of {CHANGED} files", base, ways, 1.0, rounds=9)
    if base.name == "tmpfs":
        yield from _whole(base, folder, runtime, theirs)
    else:
        settle()  # the same of files that lie on the disk: to replace one that was never written costs it nothing
        at_rest = Base(f"{base.name}, at rest", base.folder)
        yield _goal(f"rollback of {CHANGED} files", at_rest, ways, 1.0, rounds=9)
    runtime.close()


def _whole(base: Base, folder: Path, runtime: Runtime, theirs: Path) -> Iterator[tuple[tuple[str, str], Measure]]:
    ours, copy = runtime.workspace.root, folder / "copy"

    def out() -> float:
        seconds = _timed(lambda: copy_to(runtime, "", 1, copy))[1]
        shutil.rmtree(copy)
        return seconds

    def git_out() -> float:
        copy.mkdir()
        seconds = _timed(lambda: git(theirs, f"--work-tree={copy}", "checkout", "-q", "HEAD", "--", "."))[1]
        shutil.rmtree(copy)
        return seconds

    ways = {"instar restore . --to": out, "git checkout": git_out}
    yield _goal("full restore into an empty folder", base, ways, 0.5, rounds=5)

    def in_place() -> float:
        _empty(ours)
        rescan(runtime)
        return _timed(lambda: roll_back(runtime, 1))[1]

    def git_in_place() -> float:
        _empty(theirs)
        return _timed(lambda: git(theirs, "reset", "-q", "--hard"))[1]

    ways = {"instar rollback": in_place, "git reset --hard": git_in_place}
    yield _goal("rollback of an emptied folder", base, ways, 1.0, rounds=3)


def checkpoint_row() -> Row:
    """Compares a rollback of the checkpoint alone, MiniLM's, with copying its file."""
    work, against = "checkpoint rollback, MiniLM", "copying the file"
    skipped = absent("sentence_transformers")
    if skipped:
        return Row(work, against, note=skipped)
    from .checkpoint_world import two_checkpoints

    measures = []
    for base in bases():
        with fresh(base) as folder:
            runtime, weights = two_checkpoints(folder / "agent")
            targets = [1, int(runtime.reader.head())]
            turns = cycle(targets)
            only: tuple[Part, ...] = ("checkpoint",)

            def back(runtime: Runtime = runtime, turns: Iterator[int] = turns, only: tuple[Part, ...] = only) -> float:
                target = next(turns)
                return _timed(lambda: roll_back(runtime, target, only=only))[1]

            def copied(weights: Path = weights, copy: Path = folder / "copy") -> float:
                seconds = _timed(lambda: shutil.copyfile(weights, copy))[1]
                copy.unlink()
                return seconds

            name = f"{work}, {base.name}"
            medians = list(compare_seconds(name, {"instar": back, "copying": copied}, rounds=8).values())
            measures.append(Measure(medians[0] / medians[-1], 0.2, at_most=True, what=base.name))
            runtime.close()
    return Row(work, against, tuple(measures))


def _goal(
    work: str, base: Base, ways: dict[str, Callable[[], float]], goal: float, rounds: int
) -> tuple[tuple[str, str], Measure]:
    medians = list(compare_seconds(f"{work}, {base.name}", ways, rounds=rounds).values())
    return (work, list(ways)[-1]), Measure(medians[0] / medians[-1], goal, at_most=True, what=base.name)


def _empty(root: Path) -> None:
    for place in root.iterdir():
        if place.name not in _KEPT:
            shutil.rmtree(place) if place.is_dir() else place.unlink()


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    began = time.perf_counter()
    made = work()
    return made, time.perf_counter() - began
