"""A power cut at any moment of a rollback, in any state that the disk may then be in: wholly old or wholly new.

The rollback is recorded as it runs. What it wrote and did not sync may be kept, dropped or torn, name by name; a swap
of two names may be half there, which no file system that we know does. Rights and links are no part of this model.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from instar.engine.files.mounts import file_system
from instar.engine.initialize import initialize
from instar.engine.restoring.rollback import finish_begun
from instar.engine.restoring.undo import undo
from instar.engine.runtime import Runtime
from instar.fsm.events import RollbackStarted
from tests.crash import syscalls
from tests.crash.disk import Content, Disk
from tests.crash.power import Verdict, build, cut_everywhere
from tests.crash.probes import Found
from tests.crash.syscalls import Call, record
from tests.crash.tree_scenes import MEMORY
from tests.engine.agents import PROJECT
from tests.engine.edits import put, remove

pytestmark = pytest.mark.skipif(bool(syscalls.why_not()), reason=syscalls.why_not())

Tree = dict[str, bytes]

NEW: Tree = {
    "same.py": b"same",
    "changed.py": b"old " * 1000,
    "added/deep/x.py": b"added",
    "now_a_folder": b"a file",
    "now_a_file/y.py": b"y",
    "empty.py": b"",
    "large.bin": b"large " * 200_000,
}
OLD: Tree = {
    "same.py": b"same",
    "changed.py": b"new " * 1000,
    "deleted/z.py": b"deleted",
    "now_a_folder/x.py": b"x",
    "now_a_file": b"a file",
    "empty.py": b"no longer",
}


MANY = 40
"""Files enough for one call that makes the whole file system durable."""


@dataclass
class Recorded:
    """A rollback as it ran, and the workspace before it."""

    root: Path
    before: Path
    calls: list[Call]
    old: Tree
    new: Tree

    def cut(self, *, without: str = "", randoms: int = 0, every: int = 1, first_only: bool = False) -> Verdict:
        disk = Disk(self.root, [without] if without else [])
        disk.hold(disk.top, self.before)
        return cut_everywhere(
            self.calls, disk, randoms=randoms, every=every, first_only=first_only, look_at=self.recovered
        )

    def recovered(self, root: Path, content: Content) -> Found:
        """Opens a crash state as the next process would; says what is neither old nor new, or cannot be taken back."""
        build(root, content)
        problems = []
        try:
            runtime = Runtime(root, actor="test")
            try:
                begun = bool(runtime.reader.tail(1, [RollbackStarted]))
                finish_begun(runtime)
                if standing(root) != (self.new if begun else self.old):
                    problems.append(f"the log says {'new' if begun else 'old'}; there is {_short(standing(root))}")
                if begun:
                    undo(runtime)
                    if standing(root) != self.old:
                        problems.append(f"taken back, there is {_short(standing(root))}")
            finally:
                runtime.close()
        except Exception as error:  # whatever it is: nothing is recovered
            problems.append(f"it cannot be recovered: {error!r}")
        finally:
            shutil.rmtree(root)
        return Found(problems=tuple(problem.replace(str(root), "ROOT") for problem in problems))


def recorded_rollback(folder: Path, old: Tree, new: Tree) -> Recorded:
    (root := folder / "agent").mkdir()
    for path, content in new.items():
        put(root, path.encode(), ("file", 0o644, content))
    initialize(root, with_model=False)
    for path in new:
        remove(root / path)
    for path, content in old.items():
        put(root, path.encode(), ("file", 0o644, content))
    for place in [*root.iterdir()]:
        if place.is_dir() and not any(each.is_file() for each in place.rglob("*")):
            remove(place)
    shutil.copytree(root, folder / "before")
    command = [sys.executable, "-m", "instar.engine.cli.main", "rollback", "1", "-y", "-C", str(root)]
    calls = record(command, folder / "trace", cwd=PROJECT)
    assert standing(root) == new
    below = (str(root), "".join(f"\\x{byte:02x}" for byte in str(root).encode()))
    ours = [call for call in calls if any(path in text for path in below for text in _texts(call))]
    return Recorded(root, folder / "before", ours, old, new)


def _texts(call: Call) -> list[str]:
    return [call.result_path, *(argument for argument in call.arguments if len(argument) < 20_000)]


def standing(root: Path) -> Tree:
    found = {str(path.relative_to(root)): path for path in root.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if not name.startswith((".instar", "run/"))}


def _short(tree: Tree) -> dict[str, bytes]:
    return {path: content[:8] for path, content in tree.items()}


@pytest.fixture(scope="module")
def rollback(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    return recorded_rollback(tmp_path_factory.mktemp("power"), OLD, NEW)


def test_power_cut_in_a_rollback_leaves_it_wholly_old_or_wholly_new(rollback: Recorded) -> None:
    verdict = rollback.cut(every=9)
    assert not verdict.losses, verdict.losses[:3]
    assert verdict.different > 10


@pytest.fixture(scope="module")
def of_many() -> Iterator[Recorded]:
    """A rollback of many files, in memory: there the whole file system is always synced at once."""
    if file_system(MEMORY) != "tmpfs":
        pytest.skip(f"{MEMORY} is no tmpfs")
    old = {f"folder{number}/file.py": b"old %d" % number for number in range(MANY)}
    new = {path: content.replace(b"old", b"new") for path, content in old.items()}
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        yield recorded_rollback(Path(folder), old, new)


def test_power_cut_in_a_rollback_of_many_files_leaves_it_wholly_old_or_wholly_new(of_many: Recorded) -> None:
    verdict = of_many.cut(every=150)
    assert not verdict.losses, verdict.losses[:3]
    assert verdict.syncs["whole file system"] > 0


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_power_cut_anywhere_in_a_rollback_of_many_files_leaves_it_wholly_old_or_wholly_new(of_many: Recorded) -> None:
    verdict = of_many.cut(randoms=1)
    print(f"\nrollback of {MANY} files: {verdict}")
    assert not verdict.losses, verdict.losses[:3]
    assert of_many.cut(without="whole file system", first_only=True).losses, "the model cannot tell"


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_power_cut_anywhere_in_a_rollback_leaves_it_wholly_old_or_wholly_new(rollback: Recorded) -> None:
    verdict = rollback.cut(randoms=4)
    print(f"\nrollback: {verdict}")
    assert not verdict.losses, verdict.losses[:3]


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_sync_that_is_left_out_is_seen(rollback: Recorded) -> None:
    """The model can tell: without the sync of the root, or of a staged file, a finished rollback is not all there."""
    staged = [kind for kind in rollback.cut(every=100_000).syncs if re.fullmatch(r"file \d+", kind)]
    assert len(staged) >= 4
    steps = sorted({path for path in NEW.keys() | OLD.keys() if NEW.get(path) != OLD.get(path)})
    staged.remove(f"file {steps.index('empty.py')}")  # it holds nothing that could be lost
    for kind in ("folder of the workspace", *staged):
        assert rollback.cut(without=kind, first_only=True).losses, kind
    print(f"\nwithout the sync of the root or of one of {len(staged)} staged files a loss is seen each time")
