"""Undo, rollbacks of a part or of some paths, plans that are held to, and what is shown of versions and differences."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from instar.engine.differences.unified import unified
from instar.engine.replay import replay
from instar.engine.restoring.restore_path import copy_to, give_back_displaced, plan_restore, tree_path
from instar.engine.restoring.rollback import finish_begun, plan_rollback, roll_back
from instar.engine.restoring.undo import plan_undo, undo
from instar.engine.runtime import Runtime
from instar.engine.snapshot import take_snapshot
from instar.engine.trees.path_versions import versions
from instar.fsm.errors import ConfigError, Diverged, RollbackRefused
from instar.fsm.events import RollbackFinished, RollbackStarted
from instar.store import failpoints
from instar.store.tree_changes import changed
from tests.engine.agents import code_only, contents


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return code_only(tmp_path / "agent")


def edit(root: Path) -> None:
    (root / "heuristics.py").write_text("def score(a, b):\n    return 0\n")
    (root / "notes.txt").unlink()
    (root / "sub").mkdir()
    (root / "sub" / "new.py").write_text("x = 1\n")


def test_undo_takes_back_and_the_undo_of_an_undo_does_it_again(runtime: Runtime) -> None:
    root = runtime.workspace.root
    first = contents(root)
    edit(root)
    second = contents(root)
    done = roll_back(runtime, 1)
    back = undo(runtime)
    assert contents(root) == second
    assert (back.undoes, back.target) == (done.started, done.started - 1)
    again = undo(runtime)
    assert contents(root) == first
    assert again.undoes == back.started
    assert replay(runtime.reader).state == runtime.state


def test_undo_of_nothing_is_refused(runtime: Runtime) -> None:
    with pytest.raises(RollbackRefused, match="nothing to undo"):
        plan_undo(runtime)


def test_dry_run_records_nothing(runtime: Runtime) -> None:
    edit(runtime.workspace.root)
    head = runtime.reader.head()
    plan = plan_rollback(runtime, "latest")
    assert [step.action for step in plan.plan.steps] == ["change", "add", "delete"]
    assert runtime.reader.head() == head
    assert roll_back(runtime, plan).changed == 3


def test_plan_is_refused_once_files_changed_and_nothing_moves(runtime: Runtime) -> None:
    root = runtime.workspace.root
    edit(root)
    plan = plan_rollback(runtime, 1)
    (root / "heuristics.py").write_text("typed since\n")
    before = contents(root)
    with pytest.raises(Diverged, match=r"heuristics\.py"):
        roll_back(runtime, plan)
    with pytest.raises(Diverged, match="would be another"):
        roll_back(runtime, 1, plan=plan.digest[:12])
    assert contents(root) == before
    assert not list(runtime.reader.read(types=[RollbackStarted]))
    roll_back(runtime, 1, plan=plan_rollback(runtime, 1).digest)
    with pytest.raises(ConfigError, match="too short"):
        roll_back(runtime, 1, plan="ab")


def test_only_memory_leaves_the_code_as_it_is(runtime: Runtime) -> None:
    root = runtime.workspace.root
    edit(root)
    before = contents(root)
    done = roll_back(runtime, 1, only=["memory"])
    assert contents(root) == before
    assert done.parts == ("memory",)
    with pytest.raises(ConfigError, match="nothing that can be rolled back alone"):
        plan_rollback(runtime, 1, only=("weights",))  # type: ignore[arg-type]
    assert replay(runtime.reader).state == runtime.state


def test_one_file_and_one_folder_are_restored_and_undone(runtime: Runtime) -> None:
    root = runtime.workspace.root
    first = contents(root)
    edit(root)
    second = contents(root)
    seen = take_snapshot(runtime, "edited").seq
    done = roll_back(runtime, plan_restore(runtime, ["heuristics.py"], 1))
    assert done.paths == ("heuristics.py",)
    assert contents(root) == second | {"heuristics.py": first["heuristics.py"]}
    undo(runtime)
    assert contents(root) == second
    roll_back(runtime, 1)
    roll_back(runtime, plan_restore(runtime, ["sub"], seen))
    assert contents(root) == first | {"sub/new.py": second["sub/new.py"]}
    undo(runtime)
    assert contents(root) == first
    assert not (root / "sub").exists()
    with pytest.raises(ConfigError, match="did not stand at event 1"):
        plan_restore(runtime, ["sub/new.py"], 1)
    assert replay(runtime.reader).state == runtime.state


def test_copy_goes_where_nothing_stands(runtime: Runtime, tmp_path: Path) -> None:
    root = runtime.workspace.root
    first = contents(root)
    edit(root)
    copy_to(runtime, "", 1, tmp_path / "copy")
    assert contents(tmp_path / "copy") == first
    with pytest.raises(ConfigError, match="something stands"):
        copy_to(runtime, "notes.txt", 1, root / "heuristics.py")
    with pytest.raises(ConfigError, match="does not lie in"):
        tree_path(root, "../outside")


def test_bytes_displaced_by_a_cut_off_rollback_are_given_back(runtime: Runtime) -> None:
    root = runtime.workspace.root
    edit(root)
    failpoints.arm("rollback.started=error")
    try:
        with pytest.raises(OSError, match="No space"):
            roll_back(runtime, 1)
    finally:
        failpoints.arm("")
    (root / "heuristics.py").write_text("typed since\n")
    assert finish_begun(runtime)
    (finished,) = list(runtime.reader.read(types=[RollbackFinished]))
    give_back_displaced(runtime, "heuristics.py", finished.seq, root / "mine.py")
    assert (root / "mine.py").read_text() == "typed since\n"
    with pytest.raises(ConfigError, match="displaced nothing"):
        give_back_displaced(runtime, "notes.txt", finished.seq, root / "other")


def test_versions_of_a_file_name_every_event_that_changed_it(runtime: Runtime) -> None:
    edit(runtime.workspace.root)
    done = roll_back(runtime, 1)
    found = versions(runtime.reader, runtime.capture.nodes, "notes.txt")
    assert [one.change for one in found] == ["initial", "deleted", "added"]
    assert found[-1].cause == done.finished
    assert found[-1].blob == found[0].blob


def test_unified_diff_is_one_that_git_applies(runtime: Runtime, tmp_path: Path) -> None:
    root = runtime.workspace.root
    copy_to(runtime, "", 1, tmp_path / "copy")
    edit(root)
    (root / "endless.txt").write_text("no line feed at the end")
    take_snapshot(runtime, "edited")
    moved = changed(runtime.capture.nodes, runtime.reader.state_at(1).tree, str(runtime.state.tree)).changes  # type: ignore[arg-type]
    patch = b"".join(line + b"\n" for change in moved for line in unified(runtime.blobs, change))
    subprocess.run(["git", "apply", "-"], cwd=tmp_path / "copy", input=patch, check=True)
    assert contents(tmp_path / "copy") == contents(root)
