"""Texts that are easy stand in a batch as they were; layers that have learnt enough are computed once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from instar.engine.embedding.sentence_model import load_sentence_model
from instar.engine.training.contrast import Group
from instar.engine.training.easy import Easy
from instar.engine.training.encoder import Encoder
from instar.engine.training.layers import anatomy, unfreeze
from instar.engine.training.losses import Kept, Moment, loss_of
from instar.engine.training.recipe import Recipe
from tests.engine.test_training_resumed import asked, train
from tests.engine.tiny_model import tiny_model

RECIPE = Recipe(easy=0.9, easy_epochs=2, general=0.0, structure=0.0)
TEXTS = ["old one", "old two", "new one", "an answer"]
GROUP = Group(TEXTS, [[1], [0], [3], [2]])
PLACE = {text: number for number, text in enumerate(TEXTS)}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("easy") / "model", layers=2)


def known(shares: list[float], epoch: int = 0) -> Easy:
    easy = Easy(PLACE, ["new one"], RECIPE, torch.zeros(0, 2))
    easy.encoded(TEXTS, torch.eye(4, 2), epoch)
    easy.judged(TEXTS, torch.tensor(shares))
    return easy


def test_old_text_is_left_alone_once_its_answer_has_its_share() -> None:
    assert known([0.95, 0.5, 0.99, 0.9001]).parted(TEXTS, 1) == ([1, 2], [0, 3])


def test_text_that_was_never_encoded_is_encoded() -> None:
    easy = Easy(PLACE, [], RECIPE, torch.zeros(0, 2))
    easy.judged(TEXTS, torch.ones(4))
    assert easy.parted(TEXTS, 0) == ([0, 1, 2, 3], [])


def test_text_is_encoded_again_after_so_many_epochs() -> None:
    easy = known([1.0] * 4, epoch=3)
    assert [easy.parted(TEXTS, epoch)[1] for epoch in (3, 5, 6)] == [[0, 1, 3], [0, 1, 3], []]


def test_batch_of_easy_texts_alone_is_encoded_whole() -> None:
    assert known([1.0] * 4).parted(["an answer", "old one"], 1) == ([0, 1], [])


def test_easy_texts_take_part_as_they_were_and_get_no_gradient() -> None:
    vectors = torch.nn.functional.normalize(torch.randn(4, 8, generator=torch.Generator().manual_seed(1)), dim=1)
    given = {text: vectors[number].clone().requires_grad_() for number, text in enumerate(TEXTS)}
    asked_for: list[str] = []

    def encode(texts: Any) -> torch.Tensor:
        asked_for.extend(texts)
        return torch.stack([given[text] for text in texts])

    kept = Kept(PLACE, torch.zeros(0, 8), [], torch.zeros(0, 8))
    whole = loss_of(GROUP, Moment(0), kept, RECIPE, encode)
    assert asked_for == TEXTS
    easy = Easy(PLACE, ["new one"], RECIPE, torch.zeros(0, 8))
    first = loss_of(GROUP, Moment(0), kept._replace(easy=easy), RECIPE, encode)
    assert torch.equal(first, whole)  # nothing is known of any text at first
    easy.judged(TEXTS, torch.tensor([0.95, 0.1, 1.0, 0.95]))
    asked_for.clear()
    later = loss_of(GROUP, Moment(9, 1), kept._replace(easy=easy), RECIPE, encode)
    assert asked_for == ["old two", "new one"]
    assert later.item() == pytest.approx(whole.item(), abs=1e-6)
    later.backward()  # type: ignore[no-untyped-call]
    assert [given[text].grad is not None for text in TEXTS] == [False, True, True, False]
    assert bool(given["new one"].grad.abs().sum() > 0)  # type: ignore[union-attr]


@pytest.mark.parametrize("frozen", [0, -1])
def test_layers_that_are_frozen_out_are_computed_once_and_learn_no_more(frozen: int, tiny: Path) -> None:
    model = load_sentence_model(tiny)
    learning = unfreeze(model, Recipe(frozen_layers=frozen))
    model.eval()  # without dropout
    encoder = Encoder(model, frozen=frozen, tokens_max=32)
    texts = ["one text", "another text of more words than one", "short"]
    encoder.prepare(texts)
    before = encoder.encode(texts).detach()
    layers = len(anatomy(model).stack)
    encoder.freeze_out(1)
    assert len(anatomy(model).stack) == layers - 1
    after = encoder.encode(texts)
    assert torch.allclose(after, before, atol=1e-5)
    after.sum().backward()  # type: ignore[no-untyped-call]
    moved = {name for name, parameter in learning.items() if parameter.grad is not None}
    assert moved
    assert not [name for name in moved if "layer.0." in name or "embeddings" in name]
    encoder.freeze_out(99)
    assert len(anatomy(model).stack) == 1  # the uppermost goes on learning


def test_quick_training_encodes_less_and_learns(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []
    encode = Encoder.encode

    def counted(self: Encoder, texts: Any) -> torch.Tensor:
        counts.append(len(texts))
        return encode(self, texts)

    monkeypatch.setattr(Encoder, "encode", counted)
    quick = train(asked(tmp_path / "quick", "quick", tiny))
    steps = quick.steps // 6
    assert sum(counts[-steps:]) < 0.8 * sum(counts[:steps])
    assert quick.losses[-1] < quick.losses[0]


def test_recorded_recipe_without_the_newer_parts_is_trained_as_it_was() -> None:
    old = {name: value for name, value in Recipe(epochs=3).as_dict().items() if not name.startswith(("easy", "freeze"))}
    recipe = Recipe.recorded(old)
    assert (recipe.epochs, recipe.easy, recipe.freeze_out_layers) == (3, 1.0, 0)
    assert Recipe.unsaid(old) == []
    assert Recipe.unsaid({name: value for name, value in old.items() if name != "scale"}) == ["scale"]
