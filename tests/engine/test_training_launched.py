"""Several processes that train together hold the same weights, and come to the same ones twice."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from instar.engine.ports import TrainOutcome
from instar.engine.trainer import MiniLMTrainer
from instar.engine.training import launched as launched_module
from instar.engine.training.recipe import Recipe
from instar.fsm.errors import EffectFailedError, EffectSuspended
from instar.store.checkpoints import hash_folder
from tests.engine.test_trainer import pairs, request, silent
from tests.engine.tiny_model import tiny_model

SMALL = Recipe(epochs=2, batch=16, frozen_layers=4, tokens_max=32, general=0.0)
TWO = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
"""Accelerate starts several processes on GPUs, or by MPI."""
_RANK = """
import json, os, sys
from pathlib import Path
import torch
from instar.engine.trainer import MiniLMTrainer
from instar.engine.training.shards import Shards
from instar.store.checkpoints import hash_folder
from tests.engine.test_training_launched import SMALL
from tests.engine.test_trainer import pairs, request, silent
torch.distributed.init_process_group("gloo")
rank = torch.distributed.get_rank()
class Both(Shards):
    first = True  # both write, so that both can be compared
scratch = Path(sys.argv[1]) / str(rank)
asked = request(scratch, rows=pairs(), heldout=[], corpus=[], recipe=SMALL)
trainer = MiniLMTrainer(threads=1, device="cpu", shards=Both(rank, 2))
trainer.train(asked, silent)
torch.distributed.destroy_process_group()
"""


def launched(scratch: Path) -> TrainOutcome:
    asked = request(scratch, rows=pairs(), heldout=[], corpus=[], recipe=SMALL)
    seen: list[int] = []
    trainer = MiniLMTrainer(threads=1, device="cpu", launcher=shlex.join(TWO))
    outcome = trainer.train(asked, lambda step, steps, loss: seen.append(step))
    assert seen == list(range(1, outcome.steps + 1))
    return outcome


@pytest.mark.model
@pytest.mark.torture
def test_launched_training_comes_to_the_same_bytes_twice(tmp_path: Path) -> None:
    one, two = (launched(tmp_path / name) for name in ("one", "two"))
    assert hash_folder(one.folder) == hash_folder(two.folder)
    assert one.environment is not None
    assert one.environment.processor.startswith("2 processes")
    asked = request(tmp_path / "alone", rows=pairs(), heldout=[], corpus=[], recipe=SMALL)
    alone = MiniLMTrainer(threads=1, device="cpu").train(asked, silent)
    assert alone.losses[0] == pytest.approx(one.losses[0], rel=1e-3, abs=1e-4)  # before anything was learnt
    assert alone.losses == pytest.approx(one.losses, rel=0.1, abs=0.02)  # the same steps, summed in another order


def test_group_of_one_is_the_same_as_none(tmp_path: Path) -> None:
    wanted = {
        "base": tiny_model(tmp_path / "base"),
        "rows": pairs(),
        "heldout": [],
        "corpus": [],
        "recipe": replace(SMALL, epochs=1, frozen_layers=0),
    }
    launcher = f"{shlex.quote(sys.executable)} -m accelerate.commands.launch --num_processes 1 --cpu"
    one = MiniLMTrainer(threads=1, device="cpu", launcher=launcher).train(request(tmp_path / "one", **wanted), silent)
    none = MiniLMTrainer(threads=1, device="cpu").train(request(tmp_path / "none", **wanted), silent)
    assert hash_folder(one.folder) == hash_folder(none.folder)


@pytest.mark.model
@pytest.mark.torture
def test_each_process_holds_the_same_weights(tmp_path: Path) -> None:
    script = tmp_path / "rank.py"
    script.write_text(_RANK)
    command = [*TWO, str(script), str(tmp_path)]
    project = Path(__file__).parents[2]
    run = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False, env=_environ(project))
    assert run.returncode == 0, run.stderr
    assert hash_folder(tmp_path / "0" / "model") == hash_folder(tmp_path / "1" / "model")


def _environ(project: Path) -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(project), "HF_HUB_OFFLINE": "1"}


@pytest.mark.model
def test_launcher_that_fails_says_why(tmp_path: Path) -> None:
    asked = request(tmp_path, heldout=[], recipe=SMALL)
    with pytest.raises(EffectFailedError, match=r"training\.launcher cannot be run"):
        MiniLMTrainer(launcher="no-such-program").train(asked, silent)
    with pytest.raises(EffectFailedError, match="code 1"):
        MiniLMTrainer(launcher="false").train(asked, silent)


_DEAF = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork():
    print("instar-step 1 2 0.5", flush=True)
time.sleep(120)
"""


def test_launcher_that_does_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launched_module, "GRACE_S", 0.3)
    (tmp_path / "deaf.py").write_text(_DEAF)
    asked = launched_module.Asked(
        request=request(tmp_path / "scratch", base=tmp_path, recipe=SMALL), threads=1, device="cpu", keep_every_s=0
    )

    def ends(step: int, steps: int, loss: float) -> None:
        raise EffectSuspended("the worker is to end")

    began = time.monotonic()
    with pytest.raises(EffectSuspended):
        launched_module.launch(shlex.join([sys.executable, str(tmp_path / "deaf.py")]), asked, ends)
    assert time.monotonic() - began < 30
