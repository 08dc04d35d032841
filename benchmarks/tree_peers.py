"""Side by side with borg, restic and DVC: capture, capture again, full restore and bytes, on the same real files.

They are commands; each run of one includes its start, as each of its users has it. Instar runs as it is embedded.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

from rich.console import Console
from rich.table import Table

from instar.engine.initialize import initialize
from instar.engine.restoring.rollback import roll_back
from instar.engine.runtime import Runtime
from instar.engine.snapshot import take_snapshot
from instar.engine.watcher import Watcher
from instar.engine.workspace import HOME
from instar.store.trees import read_tree

from .compare import compare_seconds
from .goals import Row
from .tree_sources import bases, build, edit_spread, fresh, size_of

_STEPS = ("first capture", "nothing new", "1 file changed", "100 files changed", "full restore")


class Peer:
    """A tool that stores a folder and gives it back; ``root`` is the folder, ``store`` where it keeps its bytes."""

    name = ""

    def __init__(self, folder: Path) -> None:
        self.root, self.store, self.home = folder / "root", folder / "store", folder / "home"
        self.home.mkdir(parents=True)
        self.files = build(self.root)
        self._numbers = count()
        self._before = 0

    def run(self, *command: str, cwd: Path | None = None) -> None:
        """Runs a command, with a home of its own."""
        environ = {
            **os.environ,
            "HOME": str(self.home),
            "XDG_CACHE_HOME": str(self.home / "cache"),
            "XDG_CONFIG_HOME": str(self.home / "config"),
            "BORG_BASE_DIR": str(self.home),
            "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
            "RESTIC_PASSWORD": "bench",
            "RESTIC_PROGRESS_FPS": "0.01",
            "DVC_NO_ANALYTICS": "1",
        }
        done = subprocess.run(command, cwd=cwd or self.root, env=environ, capture_output=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed: {done.stderr.decode('utf-8', 'replace')[-2000:]}")

    def begin(self) -> None:
        """Makes an empty store in place of the one that there is."""

    def capture(self) -> None:
        """Stores what stands in the folder."""

    def restore(self) -> None:
        """Brings the last capture back into the folder, which is empty."""

    def empty(self) -> None:
        """Removes the files from the folder."""
        shutil.rmtree(self.root)
        self.root.mkdir()

    def close(self) -> None:
        """Ends what was begun."""

    def first(self) -> float:
        """Times a capture into an empty store."""
        self.begin()
        return _timed(self.capture)

    def again(self, changed: int) -> float:
        """Times a capture after a change of so many files."""
        if changed:
            edit_spread(self.files, changed, next(self._numbers))
        return _timed(self.capture)

    def back(self) -> float:
        """Times a full restore, and looks whether everything is there."""
        before = size_of(self.root) - (size_of(self.root / HOME) if (self.root / HOME).is_dir() else 0)
        self.empty()
        took = _timed(self.restore)
        missing = [path for path in self.files if not path.is_file()]
        after = size_of(self.root) - (size_of(self.root / HOME) if (self.root / HOME).is_dir() else 0)
        if missing or after < before:
            raise RuntimeError(f"{self.name} did not bring everything back: {len(missing)} files are missing")
        return took

    @property
    def bytes(self) -> int:
        """What the store takes."""
        return size_of(self.store)


class Instar(Peer):
    """This engine, in the agent's process, fed by its watcher."""

    name = "instar"
    _runtime: Runtime | None = None

    def begin(self) -> None:
        """Sets the workspace up; the capture that it includes is the first."""
        self.close()
        shutil.rmtree(self.root / HOME, ignore_errors=True)

    def capture(self) -> None:
        """Looks at what changed."""
        if self._runtime is None:
            initialize(self.root, with_model=False)
            self._runtime = Runtime(self.root, actor="bench")
            self._watcher = Watcher(self._runtime, threading.Event())
            self._watcher.start()
            self._watcher.rescan()
        else:
            self._watcher.look_at_changes()

    def empty(self) -> None:
        """Removes what was captured; what is ignored, such as a folder named ``venv``, no restore would bring back."""
        assert self._runtime is not None
        take_snapshot(self._runtime, "full")
        tree = self._runtime.state.tree
        assert tree is not None
        for path in read_tree(self._runtime.blobs, tree).files:
            (self.root / path).unlink()
        for folder, _, _ in os.walk(self.root, topdown=False):
            if HOME not in Path(folder).parts and not any(Path(folder).iterdir()):
                Path(folder).rmdir()

    def restore(self) -> None:
        """Rolls back, with a safety snapshot and all of it durable."""
        assert self._runtime is not None
        roll_back(self._runtime, "snapshot:full")

    def close(self) -> None:
        """Closes the workspace."""
        if self._runtime is not None:
            self._watcher.stop()
            self._runtime.close()
            self._runtime = None

    @property
    def bytes(self) -> int:
        """What ``.instar`` takes."""
        return size_of(self.root / HOME)


class Borg(Peer):
    """Borg, without encryption."""

    name = "borg"

    def begin(self) -> None:
        """Makes a repository."""
        shutil.rmtree(self.store, ignore_errors=True)
        shutil.rmtree(self.home)
        self.home.mkdir()
        self.run("borg", "init", "-e", "none", str(self.store))
        self._archives = count()

    def capture(self) -> None:
        """Makes an archive."""
        self._last = f"{self.store}::{next(self._archives)}"
        self.run("borg", "create", self._last, ".")

    def restore(self) -> None:
        """Extracts the last archive."""
        self.run("borg", "extract", self._last)


class Restic(Peer):
    """Restic, which always encrypts."""

    name = "restic"

    def begin(self) -> None:
        """Makes a repository."""
        shutil.rmtree(self.store, ignore_errors=True)
        shutil.rmtree(self.home)
        self.home.mkdir()
        self.run("restic", "-q", "-r", str(self.store), "init")

    def capture(self) -> None:
        """Makes a snapshot."""
        self.run("restic", "-q", "-r", str(self.store), "backup", ".")

    def restore(self) -> None:
        """Restores the last snapshot."""
        self.run("restic", "-q", "-r", str(self.store), "restore", "latest", "--target", str(self.root))


class Dvc(Peer):
    """DVC, with its cache beside the folder that it tracks."""

    name = "dvc"

    def begin(self) -> None:
        """Makes a repository around the folder."""
        shutil.rmtree(self.store.parent / ".dvc", ignore_errors=True)
        self.run("dvc", "init", "-q", "--no-scm", "-f", cwd=self.store.parent)

    def capture(self) -> None:
        """Adds the folder."""
        self.run("dvc", "add", "-q", "root", cwd=self.store.parent)

    def restore(self) -> None:
        """Checks the folder out."""
        self.run("dvc", "checkout", "-q", "-f", "root.dvc", cwd=self.store.parent)

    @property
    def bytes(self) -> int:
        """What ``.dvc`` takes."""
        return size_of(self.store.parent / ".dvc")


def main() -> list[Row]:
    """Prints the ratios; these are no goals, so there is no row but for a peer that is not there."""
    there = [kind for kind in (Borg, Restic, Dvc) if shutil.which(kind.name)]
    absent = [kind.name for kind in (Borg, Restic, Dvc) if kind not in there]
    skipped = [Row("capture and restore", name, note=f"skipped: {name} is not installed") for name in absent]
    if not there:
        return skipped
    with fresh(bases()[0]) as folder:
        peers: list[Peer] = [kind(folder / kind.name) for kind in (*there, Instar)]
        try:
            _compare(peers)
        finally:
            for peer in peers:
                peer.close()
    return skipped


def _compare(peers: list[Peer]) -> None:
    works: dict[str, Callable[[Peer], float]] = {
        "first capture": lambda peer: peer.first(),
        "nothing new": lambda peer: peer.again(0),
        "1 file changed": lambda peer: peer.again(1),
        "100 files changed": lambda peer: peer.again(100),
        "full restore": lambda peer: peer.back(),
    }
    medians = {}
    for work in _STEPS:
        ways = {peer.name: _bound(works[work], peer) for peer in peers}
        medians[work] = compare_seconds(f"{work}, with backup tools", ways, rounds=1 if work == "full restore" else 3)
    for peer in peers:
        peer.close()  # what a log holds beside the database goes into it
    table = Table(title="Instar against backup tools: time and bytes, as ratios", title_justify="left")
    for column in ("against", *_STEPS, "bytes"):
        table.add_column(column, justify="left" if column == "against" else "right")
    ours = peers[-1]
    for peer in peers[:-1]:
        ratios = [f"{medians[work][ours.name] / medians[work][peer.name]:.3f}" for work in _STEPS]
        table.add_row(peer.name, *ratios, f"{ours.bytes / peer.bytes:.2f}")
    Console().print(table)
    print("bytes: " + ", ".join(f"{peer.name} {peer.bytes:,}" for peer in peers))


def _bound(work: Callable[[Peer], float], peer: Peer) -> Callable[[], float]:
    return lambda: work(peer)


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
