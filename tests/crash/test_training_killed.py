"""A worker that is killed within a training: the next one goes on there, and the checkpoint is the very same."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest

from instar.engine.initialize import initialize
from instar.engine.runtime import Runtime
from instar.engine.training.saved import NAME
from instar.fsm.decisions import progress_due
from instar.fsm.events import CheckpointTrained, FeedbackReceived, TrainingProgressed
from instar.fsm.words import State
from instar.store.log import Pending
from instar.store.reader import LogReader
from tests.crash.lessons import rows
from tests.engine.agents import agent_folder, instar

pytestmark = [pytest.mark.model, pytest.mark.torture]

SETTINGS = """
[policy]
retrain = { rows_min = 8 }
gate = { gain_min = -100.0, heldout_min = 2, forgetting_max = 1.0 }
[training]
threads = 1
keep_every_s = 0
[training.recipe]
epochs = 3
batch = 8
tokens_max = 32
"""


def workspace(folder: Path, recipe: str) -> Path:
    root = agent_folder(folder)
    (root / "instar.toml").write_text(SETTINGS + recipe)
    initialize(root)
    runtime = Runtime(root, actor="test")
    runtime.log.transact(lambda _: [Pending(FeedbackReceived(**row)) for row in rows(24)])
    runtime.close()
    return root


def trained(root: Path) -> CheckpointTrained:
    found = [record.event for record in LogReader(root / ".instar" / "log.db").read(types=[CheckpointTrained])]
    assert len(found) == 1
    assert isinstance(found[0], CheckpointTrained)
    return found[0]


def progressed(root: Path) -> list[tuple[int, int]]:
    found = [record.event for record in LogReader(root / ".instar" / "log.db").read(types=[TrainingProgressed])]
    return [(event.step, event.steps) for event in found if isinstance(event, TrainingProgressed)]


@pytest.mark.parametrize(
    "recipe",
    [
        "",
        'tuning = "lora"\n',
        "patience = 1\nfrozen_layers = 4\n",
        "easy = 0.1\nfreeze_out_layers = 4\n",
    ],
)
@pytest.mark.parametrize("step", [2, 5])
def test_killed_training_goes_on_to_the_same_checkpoint(tmp_path: Path, recipe: str, step: int) -> None:
    root = workspace(tmp_path / "agent", recipe)
    killed = instar("run", "--once", cwd=root, INSTAR_FAILPOINTS=f"train.step=kill@{step}")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert LogReader(root / ".instar" / "log.db").state_at().machine is State.TRAINING
    (state,) = root.glob(f".instar/scratch/train-*/{NAME}")
    assert state.stat().st_size > 0
    other = tmp_path / "other"
    shutil.copytree(root, other, symlinks=True)
    shutil.rmtree(other / ".instar" / "scratch")  # there the training begins anew
    for folder in (root, other):
        again = instar("run", "--once", cwd=folder)
        assert again.returncode == 0, again.stderr
        assert not list(folder.glob(".instar/scratch/train-*"))
    assert trained(root).checkpoint == trained(other).checkpoint
    assert trained(root).loss == trained(other).loss
    assert progressed(root) == progressed(other)
    steps, done = progressed(root)[0][1], trained(root).steps  # with patience fewer are done than were planned
    assert progressed(root) == [(step, steps) for step in range(1, done + 1) if progress_due(step, steps)]
