"""Rollback of a whole workspace, and what becomes of one that is killed half-way."""

from __future__ import annotations

from pathlib import Path

import pytest

from instar.engine.replay import replay
from instar.engine.restoring import rollback
from instar.engine.restoring.rollback import plan_rollback, roll_back
from instar.engine.runtime import Runtime
from instar.engine.snapshot import take_snapshot
from instar.engine.tool_executor import execute
from instar.fsm.errors import ConfigError, LogUnavailable, RollbackRefused
from instar.fsm.events import RollbackFinished, RollbackStarted
from tests.engine.agents import code_only, contents, instar

FAILPOINTS = [
    "rollback.staged",
    "rollback.started",
    "restore.staged",
    "restore.step",
    "restore.step=kill@2",
    "restore.swapped",
    "restore.finished",
    "rollback.files",
    "rollback.checkpoint",
]


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return code_only(tmp_path / "agent")


def edited(root: Path) -> None:
    (root / "heuristics.py").write_text("def score(a, b):\n    return 0\n")
    (root / "notes.txt").unlink()
    (root / "new.py").write_text("x = 1\n")
    (root / "new.py").chmod(0o755)


def test_rollback_brings_every_byte_back_and_can_be_rolled_back(runtime: Runtime) -> None:
    root = runtime.workspace.root
    first = contents(root)
    edited(root)
    second = contents(root)
    done = roll_back(runtime, 1)
    assert contents(root) == first
    assert done.changed == 3
    roll_back(runtime, f"snapshot:{done.safety}")
    assert contents(root) == second
    assert replay(runtime.reader).state == runtime.state


def test_unseen_edits_are_recorded_before_they_are_rolled_back(runtime: Runtime) -> None:
    root = runtime.workspace.root
    edited(root)
    done = roll_back(runtime, 1)
    state = runtime.reader.state_at(runtime.state.snapshots[done.safety])
    assert state.tree != runtime.state.tree


def test_plan_moves_nothing(runtime: Runtime) -> None:
    root = runtime.workspace.root
    edited(root)
    before = contents(root)
    plan = plan_rollback(runtime, 1)
    assert [step.action for step in plan.plan.steps] == ["change", "delete", "add"]
    assert contents(root) == before
    assert not list(runtime.reader.read(types=[RollbackStarted]))


def test_ignored_and_unmanaged_files_are_left_alone(runtime: Runtime) -> None:
    root = runtime.workspace.root
    edited(root)
    (root / ".env").write_text("SECRET=1\n")
    (root / "big.bin").write_bytes(b"x" * 11_000_000)
    (root / ".git").mkdir()
    (root / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    roll_back(runtime, 1)
    assert (root / ".env").read_text() == "SECRET=1\n"
    assert (root / "big.bin").stat().st_size == 11_000_000
    assert (root / ".git" / "HEAD").read_text() == "ref: refs/heads/main\n"


def test_something_unmanaged_in_the_way_is_refused_and_nothing_moves(runtime: Runtime) -> None:
    root = runtime.workspace.root
    (root / "notes.txt").unlink()
    (root / "notes.txt").mkdir()
    (root / "notes.txt" / "huge.bin").write_bytes(b"x" * 11_000_000)
    (root / "heuristics.py").write_text("x = 2\n")
    before = contents(root)
    with pytest.raises(RollbackRefused):
        roll_back(runtime, 1)
    assert contents(root) == before
    assert runtime.state.restoring is None


def test_unknown_reference_is_refused(runtime: Runtime) -> None:
    with pytest.raises(ConfigError, match="no position"):
        roll_back(runtime, 99)


def test_rollback_while_a_cycle_runs_takes_its_signals_up_again(runtime: Runtime) -> None:
    from instar.engine.loop import Loop

    edited(runtime.workspace.root)
    take_snapshot(runtime, "edited")
    assert Loop(runtime).step()
    assert runtime.state.machine == "Diffing"
    waiting = runtime.state.cycle.count  # type: ignore[union-attr]
    roll_back(runtime, 1)
    assert runtime.state.machine == "Idle"
    assert runtime.state.waiting_count >= waiting
    execute(runtime, {"type": "self_train"}, source="test")
    assert replay(runtime.reader).state == runtime.state


@pytest.mark.parametrize("failpoint", FAILPOINTS)
def test_killed_rollback_is_rolled_forward_or_never_was(tmp_path: Path, failpoint: str) -> None:
    runtime = code_only(tmp_path / "agent")
    root = runtime.workspace.root
    first = contents(root)
    edited(root)
    take_snapshot(runtime, "edited")
    second = contents(root)
    runtime.close()
    spec = failpoint if "=" in failpoint else f"{failpoint}=kill"
    killed = instar("rollback", "1", "-y", cwd=root, INSTAR_FAILPOINTS=spec)
    assert killed.returncode == -9, killed.stderr.decode()
    begun = list(Runtime(root, actor="test").reader.read(types=[RollbackStarted]))
    if not begun:
        assert contents(root) == second
        assert instar("rollback", "1", "-y", cwd=root).returncode == 0
    else:
        # Any verb that changes something finishes it first; the snapshot then is of the target.
        assert instar("rollback", "latest", "-n", cwd=root).returncode == 0
    assert contents(root) == first
    after = Runtime(root, actor="test")
    assert after.state.restoring is None
    assert len(list(after.reader.read(types=[RollbackFinished]))) == 1
    assert replay(after.reader).state == after.state
    assert not [path for path in after.workspace.staging.glob("*") if path.is_file()]


def test_workspace_without_a_model_runs_its_cycles(runtime: Runtime) -> None:
    from instar.engine.loop import Loop
    from instar.fsm.events import EffectFailed, RetrainFlagged, SignalEmbedded

    edited(runtime.workspace.root)
    take_snapshot(runtime, "edited")
    loop = Loop(runtime)
    while loop.step():
        pass
    assert runtime.state.machine == "Idle"
    assert runtime.state.waiting_count == 0
    assert not list(runtime.reader.read(types=[EffectFailed]))
    (embedded,) = [record.event for record in runtime.reader.read(types=[SignalEmbedded])]
    assert isinstance(embedded, SignalEmbedded)
    assert {item.failure for item in embedded.items} == {"no model"}
    assert list(runtime.reader.read(types=[RetrainFlagged]))


def test_rollback_whose_end_cannot_be_recorded_says_that_it_is_to_be_finished(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    (runtime.workspace.root / "notes.txt").write_text("worse\n")

    def full(*_: object, **__: object) -> object:
        raise LogUnavailable("the log cannot be written: its disk is full. Nothing was recorded.")

    with monkeypatch.context() as patch:
        patch.setattr(rollback, "roll_forward_begun", full)
        with pytest.raises(LogUnavailable, match="finishes it") as told:
            roll_back(runtime, 1)
    begun = runtime.reader.tail(1, [RollbackStarted])[0]
    assert f"event {begun.seq}:" in str(told.value)
    rollback.finish_begun(runtime)
    assert len(list(runtime.reader.read(types=[RollbackFinished]))) == 1
    assert (runtime.workspace.root / "notes.txt").read_text() == "first line\n"
