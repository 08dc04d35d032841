"""Real histories, replayed through the watcher and rolled back commit by commit.

Every rule that leaves a file out is overruled here (``!*``), secrets and caches included: a commit is compared whole.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from instar.engine.initialize import initialize
from instar.engine.replay import replay
from instar.engine.restoring.rollback import roll_back
from instar.engine.runtime import Runtime
from instar.engine.settings import Settings, WatchSettings
from instar.engine.watcher import Watcher
from instar.fsm.words import Seq
from instar.store.trees import decode_path, read_tree
from tests.engine.edits import put, remove
from tests.engine.git_histories import BUNDLES, History, git, standing
from tests.engine.workspaces import Leaf, clear

SETTINGS = Settings(watch=WatchSettings(ignore=("!*",), debounce_ms=20, rescan_s=3600.0))
"""With a period of an hour, what is found was hinted at by the system."""
SEEN_S_MAX = 60.0


class Watched:
    """A workspace with a live watcher, asked for rescans as a worker asks it."""

    def __init__(self, root: Path) -> None:
        initialize(root, settings=SETTINGS, with_model=False)
        self.runtime = Runtime(root, actor="test", settings=SETTINGS)
        self._wake = threading.Event()
        self._watcher = Watcher(self.runtime, self._wake)
        self._watcher.start()
        self._watcher.rescan()

    def recorded(self, paths: set[str]) -> Seq:
        """Waits until the last recorded tree has these paths and nothing new is hinted at; gives its position."""
        until = time.monotonic() + SEEN_S_MAX
        while time.monotonic() < until:
            self._wake.wait(min(0.05, self._watcher.due_in()))
            self._wake.clear()
            if self._watcher.due_in() <= 0:
                self._watcher.look()
            elif self._watcher.due_in() > 60 and self._paths() == paths:
                return self.runtime.state.head
        raise AssertionError(f"the watcher missed {sorted(self._paths() ^ paths)[:5]}")

    def _paths(self) -> set[str]:
        tree = self.runtime.state.tree
        return {os.fsdecode(decode_path(path)) for path in read_tree(self.runtime.blobs, tree).files} if tree else set()

    def close(self) -> None:
        self._watcher.stop()
        self.runtime.close()


@contextmanager
def replayed(history: History) -> Iterator[tuple[Runtime, dict[str, Seq]]]:
    """A workspace through which every commit has passed, and where each was recorded; the watcher goes on."""
    watched = Watched(history.work_tree)
    try:
        points = {}
        for commit in history.commits():
            history.check_out(commit)
            points[commit] = watched.recorded(set(history.archive(commit)))
        yield watched.runtime, points
    finally:
        watched.close()


def roll_back_to_each(history: History, *, leaping: bool = True) -> int:
    """Replays a history, then rolls back to each commit, from the latest on, then in leaps; gives how many."""
    with replayed(history) as (runtime, points):
        commits = list(points)
        leaps = random.Random(1).sample(commits, len(commits)) if leaping else []
        for commit in [*reversed(commits), *leaps]:
            roll_back(runtime, points[commit])
            assert standing(history.work_tree) == history.archive(commit), commit
            tree = runtime.state.tree
            assert tree is not None
            assert read_tree(runtime.blobs, tree).unmanaged == {}
        assert replay(runtime.reader).state == runtime.state
    return len(commits) + len(leaps)


@pytest.mark.parametrize("name", ["itsdangerous_pypi_releases", "tenacity_pypi_releases"])
def test_every_release_comes_back_as_git_archives_it(tmp_path: Path, name: str) -> None:
    bundle = BUNDLES / f"{name}.bundle"
    if not bundle.is_file():
        pytest.skip(f"no real history lies at {bundle}")
    (work_tree := tmp_path / "agent").mkdir()
    done = roll_back_to_each(History.of_bundle(bundle, tmp_path / "repository", work_tree), leaping=False)
    print(f"\n{name}: {done} rollbacks, each tree as `git archive` has it")


def made_history(folder: Path, work_tree: Path, commits: int, seed: int) -> History:
    """A history with what the real ones lack: programs, links, odd names, secrets, folders that become files."""
    git("init", "-q", "--bare", "-b", "main", str(folder))
    history = History(folder, work_tree)
    rng = random.Random(seed)
    names = ["a.py", "pkg/b.py", "pkg/deep/c.py", "é 100%.txt", "pkg", ".env", "key.pem", "data.bin", "run.sh", "l"]
    for number in range(commits):
        for name in rng.sample(names, 4):
            if rng.random() < 0.2:
                remove(work_tree / name)
            else:
                put(work_tree, name.encode(), _leaf(rng, name, number))
        history("add", "-A", "-f", ".")
        history("commit", "-q", "--allow-empty", "-m", str(number))
    clear(work_tree)
    return history


def _leaf(rng: random.Random, name: str, number: int) -> Leaf:
    match rng.randrange(4):
        case 0:
            return "link", 0o777, rng.choice([b"a.py", b"../outside", b"/etc/passwd", b"pkg"])
        case 1:
            return "file", 0o755, rng.randbytes(rng.choice([0, 10, 70_000]))
        case _:
            return "file", 0o644, f"version {number} of {name}\n".encode() * rng.randrange(1, 50)


def test_history_of_programs_links_and_odd_names_comes_back_as_git_archives_it(tmp_path: Path) -> None:
    (work_tree := tmp_path / "agent").mkdir()
    roll_back_to_each(made_history(tmp_path / "repository", work_tree, 8, seed=1))


@pytest.mark.torture
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(2, 6))
def test_long_histories_come_back_as_git_archives_them(tmp_path: Path, seed: int) -> None:
    (work_tree := tmp_path / "agent").mkdir()
    done = roll_back_to_each(made_history(tmp_path / "repository", work_tree, 60, seed))
    print(f"\n{done} rollbacks in a made history, each tree as `git archive` has it")
