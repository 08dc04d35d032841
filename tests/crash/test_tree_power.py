"""A power cut at any moment of a rollback, in any state that the disk may then be in: wholly old or wholly new.

The rollback is recorded as it runs. What it wrote and did not sync may be kept, dropped or torn, name by name; a swap
of two names may be half there, which no file system that we know does. Rights and links are no part of this model.
"""

from __future__ import annotations

import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from instar.engine.initialize import initialize
from instar.engine.rollback import finish_begun
from instar.engine.runtime import Runtime
from instar.engine.undo import undo
from instar.fsm.events import RollbackStarted
from tests.crash import syscalls
from tests.crash.disk import Content, Disk
from tests.crash.power import Verdict, build, cut_everywhere
from tests.crash.probes import Found
from tests.crash.syscalls import Call, record
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


@dataclass
class Recorded:
    """A rollback as it ran, and the workspace before it."""

    root: Path
    before: Path
    calls: list[Call]

    def cut(self, *, without: str = "", randoms: int = 0, every: int = 1, first_only: bool = False) -> Verdict:
        disk = Disk(self.root, [without] if without else [])
        disk.hold(disk.top, self.before)
        return cut_everywhere(self.calls, disk, randoms=randoms, every=every, first_only=first_only, look_at=recovered)


def recorded_rollback(folder: Path) -> Recorded:
    (root := folder / "agent").mkdir()
    for path, content in NEW.items():
        put(root, path.encode(), ("file", 0o644, content))
    initialize(root, with_model=False)
    for path in NEW:
        remove(root / path)
    for path, content in OLD.items():
        put(root, path.encode(), ("file", 0o644, content))
    remove(root / "added")
    shutil.copytree(root, folder / "before")
    command = [sys.executable, "-m", "instar.engine.cli.main", "rollback", "1", "-y", "-C", str(root)]
    calls = record(command, folder / "trace", cwd=PROJECT)
    assert standing(root) == NEW
    below = (str(root), "".join(f"\\x{byte:02x}" for byte in str(root).encode()))
    ours = [call for call in calls if any(path in text for path in below for text in _texts(call))]
    return Recorded(root, folder / "before", ours)


def _texts(call: Call) -> list[str]:
    return [call.result_path, *(argument for argument in call.arguments if len(argument) < 20_000)]


def standing(root: Path) -> Tree:
    found = {str(path.relative_to(root)): path for path in root.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if not name.startswith((".instar", "run/"))}


def recovered(root: Path, content: Content) -> Found:
    """Opens a crash state as the next process would; says what is neither old nor new, or cannot be taken back."""
    build(root, content)
    problems = []
    try:
        runtime = Runtime(root, actor="test")
        try:
            begun = bool(runtime.reader.tail(1, [RollbackStarted]))
            finish_begun(runtime)
            if standing(root) != (NEW if begun else OLD):
                problems.append(f"the log says {'new' if begun else 'old'}; there is {_short(standing(root))}")
            if begun:
                undo(runtime)
                if standing(root) != OLD:
                    problems.append(f"taken back, there is {_short(standing(root))}")
        finally:
            runtime.close()
    except Exception as error:  # whatever it is: nothing is recovered
        problems.append(f"it cannot be recovered: {error!r}")
    finally:
        shutil.rmtree(root)
    return Found(problems=tuple(problem.replace(str(root), "ROOT") for problem in problems))


def _short(tree: Tree) -> dict[str, bytes]:
    return {path: content[:8] for path, content in tree.items()}


@pytest.fixture(scope="module")
def rollback(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    return recorded_rollback(tmp_path_factory.mktemp("power"))


def test_power_cut_in_a_rollback_leaves_it_wholly_old_or_wholly_new(rollback: Recorded) -> None:
    verdict = rollback.cut(every=9)
    assert not verdict.losses, verdict.losses[:3]
    assert verdict.different > 10


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
