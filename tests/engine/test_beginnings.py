"""An effect that takes its worker with it: tried three times, then recorded as failed, so that the machine goes on."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from instar.engine.beginnings import BEGINNINGS_MAX, Beginning
from instar.engine.replay import replay
from instar.engine.runtime import Runtime
from instar.engine.tool_executor import execute
from instar.engine.training.saved import NAME, steps_saved
from instar.engine.workspace import Workspace
from instar.fsm.errors import EffectFailedError
from instar.fsm.events import EffectFailed, MutationApplied
from instar.fsm.react import Effect, EffectName, react
from instar.fsm.words import Seq, State
from tests.engine.agents import code_only, contents, instar
from tests.engine.test_kernel import GATE, GOOD

KILLS = ["sh", "-c", "kill -9 $PPID"]
"""Ends its worker, where nothing confines it."""
ASKED_FIRST = "kill -TERM $PPID; while [ -e ../../../begun.json ]; do sleep 0.02; done; kill -9 $PPID"
"""Asks the worker to end, waits until it has heard that, and kills it."""

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed; it applies the patches")


def owing_mutation(root: Path, gate: list[str]) -> Workspace:
    runtime = code_only(root)
    execute(runtime, {"type": "mutate", "patch": GOOD, "gate": gate}, source="test")
    execute(runtime, {"type": "mutate", "patch": GOOD, "gate": GATE}, source="test")
    runtime.close()
    return runtime.workspace


def killed(workspace: Workspace, *arguments: str) -> None:
    done = instar("run", *arguments, cwd=workspace.root, INSTAR_MUTATION__SANDBOX="rlimits")
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


@needs_git
def test_gate_that_kills_the_worker_is_recorded_as_failed_and_the_next_is_tried(tmp_path: Path) -> None:
    workspace = owing_mutation(tmp_path / "agent", KILLS)
    before = contents(workspace.root)
    for _ in range(BEGINNINGS_MAX):
        killed(workspace, "--once")
        assert len(list(workspace.scratch.glob("mutation-*"))) == 1
    done = instar("run", "--once", cwd=workspace.root)
    assert done.returncode == 0, done.stderr.decode()
    runtime = Runtime(workspace.root, actor="test")
    (failed,) = [record.event for record in runtime.reader.read(types=[EffectFailed])]
    assert isinstance(failed, EffectFailed)
    assert failed.effect == EffectName.MUTATE
    assert "the worker ended each of the 3 times" in failed.reason
    assert failed.detail == ""
    assert len(list(runtime.reader.read(types=[MutationApplied]))) == 1
    assert contents(workspace.root) != before
    assert runtime.state.machine is State.IDLE
    assert react(runtime.state) is None
    assert not list(workspace.scratch.glob("mutation-*"))
    assert not workspace.begun.exists()
    assert replay(runtime.reader).state == runtime.state
    runtime.close()


@needs_git
def test_worker_that_was_asked_to_end_before_it_was_killed_is_not_counted(tmp_path: Path) -> None:
    workspace = owing_mutation(tmp_path / "agent", ["sh", "-c", ASKED_FIRST])
    for _ in range(BEGINNINGS_MAX + 1):
        killed(workspace)
        assert not workspace.begun.exists()
    runtime = Runtime(workspace.root, actor="test")
    owed = react(runtime.state)
    assert owed is not None
    assert owed.name is EffectName.MUTATE
    runtime.close()


def begin(workspace: Workspace, effect: Effect) -> bool:
    """Begins an effect as a worker does that is killed while it runs; says whether it is tried at all."""
    beginning = Beginning(workspace, effect)
    try:
        with beginning.counted():
            beginning.check()
            left = workspace.begun.read_bytes() if workspace.begun.exists() else None
    except EffectFailedError:
        return False
    if left is not None:
        workspace.begun.write_bytes(left)
    return True


def test_beginnings_of_one_effect_are_counted_in_a_row(tmp_path: Path) -> None:
    workspace = code_only(tmp_path / "agent").workspace
    diff, embed = Effect(EffectName.DIFF, Seq(2)), Effect(EffectName.EMBED, Seq(3))
    assert [begin(workspace, diff) for _ in range(5)] == [True, True, True, False, False]
    assert [begin(workspace, embed) for _ in range(4)] == [True, True, True, False]
    assert begin(workspace, Effect(EffectName.EMBED, Seq(4)))
    assert begin(workspace, embed)
    with pytest.raises(KeyboardInterrupt), Beginning(workspace, embed).counted():
        raise KeyboardInterrupt
    assert not workspace.begun.exists()
    with pytest.raises(OSError, match="full"), _exhausted(workspace, diff).counted():
        raise OSError("the failure cannot be recorded: the disk is full")
    assert not begin(workspace, diff)


def _exhausted(workspace: Workspace, effect: Effect) -> Beginning:
    for _ in range(BEGINNINGS_MAX):
        begin(workspace, effect)
    return Beginning(workspace, effect)


def test_start_of_a_cycle_whose_failure_cannot_be_recorded_is_tried_for_ever(tmp_path: Path) -> None:
    workspace = code_only(tmp_path / "agent").workspace
    assert all(begin(workspace, Effect(EffectName.START_CYCLE, Seq(1))) for _ in range(9))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"effect": 1}', b"\xff" * 9])
def test_count_that_cannot_be_read_is_none(tmp_path: Path, content: bytes) -> None:
    workspace = code_only(tmp_path / "agent").workspace
    effect = Effect(EffectName.DIFF, Seq(2))
    _exhausted(workspace, effect)
    workspace.begun.write_bytes(content)
    assert begin(workspace, effect)


def test_training_that_got_further_is_counted_anew(tmp_path: Path) -> None:
    workspace = code_only(tmp_path / "agent").workspace
    train = Effect(EffectName.TRAIN, Seq(9))
    folder = workspace.scratch / "train-9"
    folder.mkdir(parents=True)
    for steps in (3, 3, 3, 7, 8, 8, 8):
        save_file({"losses": np.zeros(steps)}, folder / NAME)
        assert steps_saved(folder) == steps
        assert begin(workspace, train)
    assert not begin(workspace, train)
    (folder / NAME).unlink()  # begun from the start, it is not further than it was
    assert not begin(workspace, train)
    assert steps_saved(folder) == 0
    (folder / NAME).write_bytes(b"\xff" * 40)
    assert steps_saved(folder) == 0
