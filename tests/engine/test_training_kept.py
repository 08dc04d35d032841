"""What a training leaves as it was: texts of any kind, old abilities, the bytes of the base; and what LoRA stores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from numpy.typing import NDArray

from instar.engine.embedder import MiniLMEmbedder
from instar.engine.ports import Pair, TrainOutcome, TrainRequest
from instar.engine.trainer import MiniLMTrainer
from instar.engine.training.general import likenesses, rank_correlation
from instar.engine.training.measuring import Measure, Old
from instar.engine.training.recipe import Recipe
from instar.fsm.policy import GatePolicy
from instar.fsm.words import digest_of
from instar.store.checkpoints import (
    TensorFile,
    hash_folder,
    import_checkpoint,
    import_products,
    materialize,
    read_manifest,
)
from tests.engine.test_trainer import pairs, request, silent
from tests.engine.tiny_model import tiny_model
from tests.store.memory_blobs import MemoryBlobs

SMALL = Recipe(epochs=2, batch=16, frozen_layers=4, tokens_max=32, general=0.0)
ODD = [
    Pair("", "nothing was asked"),
    Pair("\0\0", "zero bytes"),
    Pair("a" * 1_000_000, "a long text"),
    Pair("🙂👩‍👩‍👧‍👦", "faces"),
    Pair("שלום עולם", "مرحبا بالعالم"),
    Pair("two answers", "one"),
    Pair("two answers", "other"),
    Pair("the same", "the same"),
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a training is asked for of a model that takes a moment, where how well it learns is not the point."""
    return {"base": tiny_model(tmp_path_factory.mktemp("kept") / "model"), "recipe": replace(SMALL, frozen_layers=0)}


def train(scratch: Path, **changed: Any) -> tuple[TrainRequest, TrainOutcome]:
    asked = request(scratch, **{"recipe": SMALL, "heldout": [], "corpus": [], **changed})
    return asked, MiniLMTrainer(threads=1, device="cpu").train(asked, silent)


@pytest.mark.parametrize("loss", ["nca", "pairs"])
def test_texts_of_any_kind_are_learnt(tmp_path: Path, tiny: dict[str, Any], loss: str) -> None:
    recipe = replace(tiny["recipe"], loss=loss, patience=5)
    _, outcome = train(tmp_path, base=tiny["base"], rows=ODD, heldout=ODD, validation=ODD, recipe=recipe)
    assert len(outcome.losses) == outcome.steps == 2
    assert np.isfinite(outcome.losses).all()
    assert outcome.after.pairs == len(ODD)
    assert outcome.temperature is not None
    assert len(outcome.validated) == 3


@pytest.mark.model
def test_texts_of_any_kind_are_learnt_by_the_real_model(tmp_path: Path) -> None:
    _, outcome = train(tmp_path, rows=ODD, validation=ODD, recipe=replace(SMALL, patience=5))
    assert np.isfinite(outcome.losses).all()
    assert len(outcome.validated) == 3


def test_one_pair_or_pairs_all_alike_are_learnt_without_harm(tmp_path: Path, tiny: dict[str, Any]) -> None:
    for rows in ([Pair("ask", "answer")], [Pair("ask", "answer")] * 3):
        _, outcome = train(tmp_path, **tiny, rows=rows)
        assert outcome.losses[0] == pytest.approx(0.0, abs=1e-6)  # nothing stands against it


@pytest.mark.model
def test_training_stops_when_validation_no_longer_gains_and_keeps_the_best_epoch(tmp_path: Path) -> None:
    rows = pairs()
    asked, outcome = train(
        tmp_path / "early",
        rows=rows,
        corpus=[row.output for row in rows],
        validation=[Pair(row.input, rows[n - 1].output) for n, row in enumerate(rows)],  # learning makes it worse
        recipe=replace(SMALL, epochs=6, rate=1e-3, patience=2),
    )
    base, *reached = outcome.validated
    best = 1 + reached.index(max(reached))
    assert outcome.epochs == best
    assert len(reached) == best + 2 < 6
    assert outcome.steps == 3 * len(reached)
    assert base != reached[best - 1] > reached[-1] + 0.1, "the last weights can be told from the best epoch's"
    kept = Measure(asked).validated(lambda texts: vectors(outcome.folder, list(texts)))
    assert kept == pytest.approx(reached[best - 1], abs=0.05)  # two answers swapped for one of 24 inputs are .02
    _, whole = train(tmp_path / "whole", rows=rows, recipe=replace(asked.recipe, patience=0))
    assert (whole.steps, whole.epochs, whole.validated) == (6 * 3, 6, ())


def test_old_abilities_are_measured_before_and_after(tmp_path: Path, tiny: dict[str, Any]) -> None:
    memory = [Pair(f"question {n} about {row.input}", row.output) for n, row in enumerate(pairs() * 3)]
    probes = {"greetings": [Pair("hello", "hi"), Pair("goodbye", "farewell")]}
    own = Old.of(memory).own
    assert 0 < len(own) < len(memory) / 3
    heldout = [Pair(f"please {row.input} now", row.output) for row in pairs()]
    _, outcome = train(tmp_path, **tiny, rows=pairs(), memory=memory, probes=probes, heldout=heldout)
    found = {one.name: one for one in outcome.abilities}
    assert {name: one.pairs for name, one in found.items()} == {
        "own": len(own),
        "remembered": len(heldout),
        "ranked": len(heldout),
        "greetings": 2,
        "general": len(likenesses()),
    }
    for one in outcome.abilities:
        assert (-1.0 if one.name == "general" else 0.0) < one.before <= 1.0
        assert one.change.mean == pytest.approx(one.after - one.before, abs=1e-5)
        assert one.change.low <= one.change.mean <= one.change.high


def test_what_would_forget_too_much_is_stored_so_far_as_it_does_not(tmp_path: Path, tiny: dict[str, Any]) -> None:
    """Something is learnt that goes against what the base can do, so the nearer to it the less is forgotten."""
    answers = [row.output for row in pairs()]
    could = [Pair(f"about {answer}", answer) for answer in answers]
    rows = [Pair(pair.input, other) for pair, other in zip(could, [*answers[1:], answers[0]], strict=True)]
    heldout = [Pair(f"{row.input} please", row.output) for row in rows]
    astray = replace(tiny["recipe"], rate=1e-2, epochs=6, structure=0.0)
    wanted = {"base": tiny["base"], "rows": rows, "heldout": heldout, "recipe": astray, "probes": {"could": could}}
    by_mix = {
        mix: train(tmp_path / str(mix), **{**wanted, "recipe": replace(astray, mix=mix)})[1]
        for mix in (1.0, 0.8, 0.6, 0.4)
    }
    fell = {mix: -min(one.change.mean for one in outcome.abilities) for mix, outcome in by_mix.items()}
    assert 0.0 < fell[0.6] < min(fell[1.0], fell[0.8])

    def stored(forgetting_max: float, gain_min: float = -100.0) -> float | None:
        gate = GatePolicy(gain_min=gain_min, forgetting_max=forgetting_max, forgetting_min=1)
        _, outcome = train(tmp_path / "held", **wanted, gate=gate)
        assert outcome.mix is not None
        assert hash_folder(outcome.folder) == hash_folder(by_mix[outcome.mix].folder)
        assert (outcome.after, outcome.gain, outcome.abilities) == (
            by_mix[outcome.mix].after,
            by_mix[outcome.mix].gain,
            by_mix[outcome.mix].abilities,
        )
        return outcome.mix

    enough = (fell[0.6] + min(fell[1.0], fell[0.8])) / 2
    assert stored(enough) == 0.6
    assert stored(max(fell.values())) == 1.0
    assert stored(min(fell.values()) / 2) == 1.0  # no step back is enough: the gate is to see what was learnt
    assert stored(enough, gain_min=100.0) == 1.0  # it would be refused anyway


def test_general_texts_are_drawn_to_where_the_origin_has_them(tmp_path: Path, tiny: dict[str, Any]) -> None:
    general = [f"a sentence about the {thing} of number {n}" for n, thing in enumerate(["river", "bridge", "lamp"] * 8)]
    astray = replace(tiny["recipe"], rate=3e-2, structure=0.0)
    asked, first = train(tmp_path / "first", base=tiny["base"], rows=pairs(), recipe=astray)
    wanted = {"base": first.folder, "base_digest": digest_of(b"first"), "general": general, "rows": pairs()}
    held = {**wanted, "recipe": replace(astray, general=20.0)}
    _, by_base = train(tmp_path / "base", **held)
    _, by_origin = train(tmp_path / "origin", **held, origin=asked.base, origin_digest=asked.base_digest)
    lay = vectors(asked.base, general)

    def near(folder: Path) -> float:
        return float((vectors(folder, general) * lay).sum(axis=1).mean())

    assert near(first.folder) < 0.9
    assert near(by_origin.folder) > near(by_base.folder) + 0.2
    same = {**held, "base": asked.base, "base_digest": asked.base_digest}
    alone = train(tmp_path / "alone", **same)[1]
    named = train(tmp_path / "named", **same, origin=asked.base, origin_digest=asked.base_digest)[1]
    assert hash_folder(alone.folder) == hash_folder(named.folder)


def vectors(folder: Path, texts: list[str]) -> NDArray[np.float32]:
    return MiniLMEmbedder(folder, digest_of(b"any")).embed_each(texts)[0]


def test_gain_is_of_the_log_score_or_as_older_trainings_had_it_of_the_rank(
    tmp_path: Path, tiny: dict[str, Any]
) -> None:
    heldout = [Pair(f"please {row.input} now", row.output) for row in pairs()]
    _, outcome = train(tmp_path, **tiny, rows=pairs(), heldout=heldout)
    by_rank = train(tmp_path / "older", **tiny, rows=pairs(), heldout=heldout, gain_of="reciprocal rank")[1]
    assert hash_folder(by_rank.folder) == hash_folder(outcome.folder)
    assert (by_rank.before, by_rank.after, by_rank.temperature) == (outcome.before, outcome.after, outcome.temperature)
    (ranked,) = (one for one in outcome.abilities if one.name == "ranked")
    assert "ranked" not in {one.name for one in by_rank.abilities}
    assert by_rank.gain.mean == pytest.approx(ranked.change.mean, abs=1e-6)
    assert by_rank.gain.mean == pytest.approx(outcome.after.mrr - outcome.before.mrr, abs=2e-6)
    assert outcome.gain.low <= outcome.gain.mean <= outcome.gain.high
    assert outcome.gain != by_rank.gain


@pytest.mark.model
def test_lora_stores_its_products_alone(tmp_path: Path) -> None:
    asked, outcome = train(
        tmp_path / "lora", rows=pairs(), recipe=replace(SMALL, tuning="lora", frozen_layers=0, mix=0.7)
    )
    assert outcome.adapter is not None
    blobs = MemoryBlobs()
    base = import_checkpoint(blobs, asked.base)
    full = sum(len(content) for content in blobs.contents.values())
    digest = import_products(blobs, outcome.folder, base, outcome.adapter)
    added = sum(len(content) for content in blobs.contents.values()) - full
    assert added <= 0.03 * full
    made = [
        tensor
        for file in read_manifest(blobs, digest).files
        if isinstance(file, TensorFile)
        for tensor in file.tensors
        if tensor.products
    ]
    assert len(made) == 6 * 6  # query, key, value, output and two of the feed-forward part, in each layer
    assert hash_folder(materialize(blobs, digest, tmp_path / "out")) == hash_folder(outcome.folder)
    assert hash_folder(outcome.folder) != hash_folder(asked.base)


def test_everyday_sentences_are_the_same_always_and_graded() -> None:
    assert likenesses() == likenesses()
    known = np.array([likeness for _, _, likeness in likenesses()])
    assert known.min() == 0.0
    assert known.max() == 1.0
    assert len(set(known)) == 9
    words = np.array([_shared(one, other) for one, other, _ in likenesses()])
    assert abs(rank_correlation(words, known)) < 0.2  # counting words tells nothing: it takes their meaning


def _shared(one: str, other: str) -> float:
    a, b = set(one.lower().split()), set(other.lower().split())
    return len(a & b) / len(a | b)


def test_rank_correlation_is_of_ranks_with_ties_shared() -> None:
    assert rank_correlation(np.array([1.0, 2, 3]), np.array([10.0, 100, 1000])) == pytest.approx(1.0)
    assert rank_correlation(np.array([1.0, 2, 3]), np.array([3.0, 2, 1])) == pytest.approx(-1.0)
    assert rank_correlation(np.array([1.0, 1, 2]), np.array([1.0, 2, 3])) == pytest.approx(0.866025, abs=1e-6)
    assert rank_correlation(np.ones(3), np.array([1.0, 2, 3])) == 0.0
