"""A training that is killed goes on to the same bytes; what it left and cannot be used is as good as nothing."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from instar.engine.ports import Pair, TrainOutcome, TrainRequest
from instar.engine.trainer import MiniLMTrainer
from instar.engine.training.docstrings import docstrings
from instar.engine.training.recipe import Recipe
from instar.engine.training.saved import NAME, steps_saved
from instar.store.checkpoints import hash_folder
from tests.engine.test_trainer import pairs, request, silent

pytestmark = pytest.mark.model

RECIPES = {
    "nca": Recipe(epochs=3, batch=16, frozen_layers=4, tokens_max=32, dropout=0.1, general=1.0, patience=2),
    "lora": Recipe(tuning="lora", epochs=3, batch=16, frozen_layers=5, tokens_max=32, general=0.0, lora_rank=4),
}
STEPS = 12
_KILLED = """
import os, signal, sys
from pathlib import Path
from tests.engine.test_training_resumed import RECIPES, asked, train
def progress(step, steps, loss):
    if step == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
train(asked(Path(sys.argv[1]), sys.argv[2]), progress)
"""


def asked(scratch: Path, name: str) -> TrainRequest:
    rows = pairs()
    return request(
        scratch,
        rows=rows[:18],
        memory=[Pair(f"really {row.input}", row.output) for row in rows[18:]],
        validation=[Pair(f"do {row.input}", row.output) for row in rows[:6]],
        heldout=[],
        general=docstrings()[:40],
        recipe=RECIPES[name],
    )


def train(wanted: TrainRequest, progress: object = silent) -> TrainOutcome:
    return MiniLMTrainer(threads=1, device="cpu", keep_every_s=0.0).train(wanted, progress)  # type: ignore[arg-type]


def killed(scratch: Path, name: str, step: int) -> None:
    command = [sys.executable, "-c", _KILLED, str(scratch), name, str(step)]
    run = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, check=False)
    assert run.returncode == -signal.SIGKILL, run.stderr.decode()
    assert (scratch / NAME).is_file()
    assert steps_saved(scratch) == step
    assert not (scratch / "model").exists()


@pytest.mark.parametrize("name", RECIPES)
def test_killed_and_resumed_ends_with_the_same_bytes(name: str, tmp_path: Path) -> None:
    whole = train(asked(tmp_path / "whole", name))
    assert whole.steps >= 6
    killed(tmp_path / "cut", name, step=4)
    seen: list[int] = []
    resumed = train(asked(tmp_path / "cut", name), lambda step, steps, loss: seen.append(step))
    assert seen[0] == 5
    assert hash_folder(resumed.folder) == hash_folder(whole.folder)
    assert (resumed.losses, resumed.validated) == (whole.losses, whole.validated)
    if whole.adapter and resumed.adapter:
        assert whole.adapter.read_bytes() == resumed.adapter.read_bytes()


def test_state_that_cannot_be_used_begins_the_training_anew(tmp_path: Path) -> None:
    whole = train(asked(tmp_path, "lora"))
    expected = hash_folder(whole.folder)
    sound = (tmp_path / NAME).read_bytes()
    flipped = bytearray(sound)
    flipped[len(sound) // 2] ^= 1

    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path / 'exploded'}",)

    for content in (b"", sound[:1000], pickle.dumps(Bomb()), b"\xff" * 4096, sound.replace(b'"key"', b'"yek"')):
        (tmp_path / NAME).write_bytes(content)
        seen: list[int] = []
        again = train(asked(tmp_path, "lora"), lambda step, steps, loss, seen=seen: seen.append(step))  # type: ignore[misc]
        assert seen[0] == 1
        assert hash_folder(again.folder) == expected
    assert not (tmp_path / "exploded").exists()


def test_state_of_another_training_is_left_alone(tmp_path: Path) -> None:
    train(asked(tmp_path, "lora"))
    other = asked(tmp_path, "lora")
    seen: list[int] = []
    from msgspec.structs import replace

    train(replace(other, seed=other.seed + 1), lambda step, steps, loss: seen.append(step))
    assert seen[0] == 1


def test_full_disk_costs_the_saved_state_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import safetensors.torch

    def full(*_given: object, **_named: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    outcome = train(asked(tmp_path, "nca"))
    assert outcome.folder.is_dir()
    assert not list(tmp_path.glob("training-state*"))


def test_training_that_is_put_off_keeps_what_it_did(tmp_path: Path) -> None:
    from instar.fsm.errors import EffectSuspended

    whole = train(asked(tmp_path / "whole", "lora"))
    trainer = MiniLMTrainer(threads=1, device="cpu", keep_every_s=3600.0)

    def put_off(step: int, steps: int, loss: float) -> None:
        if step == 3:
            raise EffectSuspended("the worker is to end")

    with pytest.raises(EffectSuspended):
        trainer.train(asked(tmp_path / "cut", "lora"), put_off)
    seen: list[int] = []
    resumed = train(asked(tmp_path / "cut", "lora"), lambda step, steps, loss: seen.append(step))
    assert seen[0] == 4
    assert hash_folder(resumed.folder) == hash_folder(whole.folder)
