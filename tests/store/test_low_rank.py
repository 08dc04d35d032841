"""A checkpoint of products: small, whole when it is written out, and refused when a part of it is not what it was."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from instar.engine.keeping.named_blobs import Parts
from instar.fsm.errors import BlobCorrupt, ConfigError
from instar.fsm.words import Digest
from instar.store.checkpoints import (
    TensorFile,
    hash_folder,
    import_checkpoint,
    import_products,
    materialize,
    read_manifest,
    tensor_bytes,
)
from instar.store.low_rank import with_product
from instar.store.low_rank_file import read_low_rank
from tests.store.memory_blobs import MemoryBlobs

CHANCE = np.random.default_rng(5)
BASE = {
    "layer.w": CHANCE.standard_normal((48, 32)).astype(np.float32),
    "layer.b": CHANCE.standard_normal(48).astype(np.float32),
    "table": CHANCE.standard_normal((500, 32)).astype(np.float32),
}


def folder_of(tensors: dict[str, np.ndarray], folder: Path) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    save_file(tensors, folder / "model.safetensors")
    return folder


def adapted(tensors: dict[str, np.ndarray], place: Path, rank: int = 2) -> tuple[Path, Path]:
    """A folder whose first tensor has a product added, and the file of that product."""
    narrow = CHANCE.standard_normal((rank, 32)).astype(np.float32)
    wide = CHANCE.standard_normal((48, rank)).astype(np.float32)
    made = {**tensors, "layer.w": with_product(tensors["layer.w"], narrow, wide, 0.3)}
    where = "model.safetensors:layer.w"
    adapter = place.with_suffix(".adapter.safetensors")
    save_file({f"{where}:narrow": narrow, f"{where}:wide": wide, f"{where}:scale": np.array([0.3])}, adapter)
    return folder_of(made, place), adapter


def size(blobs: MemoryBlobs) -> int:
    return sum(len(content) for content in blobs.contents.values())


def test_product_is_summed_in_order_and_rounded_once() -> None:
    base, narrow, wide = BASE["layer.w"], np.ones((2, 32), np.float32), np.ones((48, 2), np.float32)
    made = with_product(base, narrow, wide, 0.5)
    np.testing.assert_array_equal(made, (base.astype(np.float64) + 0.5 + 0.5).astype(np.float32))
    assert made.dtype == np.float32


def test_checkpoint_of_products_adds_only_them_and_comes_back_whole(tmp_path: Path) -> None:
    blobs = MemoryBlobs()
    base = import_checkpoint(blobs, folder_of(BASE, tmp_path / "base"))
    before = size(blobs)
    first, adapter = adapted(BASE, tmp_path / "first")
    once = import_products(blobs, first, base, adapter)
    added = size(blobs) - before
    assert added < 3000
    assert hash_folder(materialize(blobs, once, tmp_path / "out")) == hash_folder(first)
    # and a product on a product
    second, adapter = adapted(load_file(first / "model.safetensors"), tmp_path / "second", rank=3)
    twice = import_products(blobs, second, once, adapter)
    assert hash_folder(materialize(blobs, twice, tmp_path / "out")) == hash_folder(second)
    (tensor,) = [
        one
        for file in read_manifest(blobs, twice).files
        if isinstance(file, TensorFile)
        for one in file.tensors
        if one.products
    ]
    assert [product.rank for product in tensor.products] == [2, 3]
    assert not blobs.has(tensor.blob)
    assert set(tensor.stored) <= set(Parts(blobs).of("checkpoint", twice))
    assert all(blobs.has(part) for part in Parts(blobs).of("checkpoint", twice))


def test_plain_checkpoint_has_the_manifest_that_it_always_had(tmp_path: Path) -> None:
    blobs = MemoryBlobs()
    digest = import_checkpoint(blobs, folder_of({"w": np.zeros((2, 2), np.float32)}, tmp_path / "plain"))
    content = msgspec.json.decode(blobs.get(digest))
    assert content["format"] == 1
    (file,) = [file for file in content["files"] if file["type"] == "tensors"]
    assert set(file["tensors"][0]) == {"name", "dtype", "shape", "begin", "end", "blob"}


def test_part_that_is_not_what_it_was_is_refused(tmp_path: Path) -> None:
    blobs = MemoryBlobs()
    base = import_checkpoint(blobs, folder_of(BASE, tmp_path / "base"))
    folder, adapter = adapted(BASE, tmp_path / "first")
    digest = import_products(blobs, folder, base, adapter)
    manifest = read_manifest(blobs, digest)
    (tensor,) = [one for file in manifest.files if isinstance(file, TensorFile) for one in file.tensors if one.products]
    for part in tensor.stored:
        kept = blobs.contents[part]
        blobs.contents[part] = kept[:2] + bytes([kept[2] ^ 64]) + kept[3:]
        with pytest.raises(BlobCorrupt):
            tensor_bytes(blobs, tensor)
        blobs.contents[part] = kept[:-4]
        with pytest.raises(BlobCorrupt):
            materialize(blobs, digest, tmp_path / "out")
        blobs.contents[part] = kept
    assert not (tmp_path / "out" / digest).exists()
    assert tensor_bytes(blobs, tensor)


def test_weights_that_are_not_what_the_products_give_are_stored_whole(tmp_path: Path) -> None:
    blobs = MemoryBlobs()
    base = import_checkpoint(blobs, folder_of(BASE, tmp_path / "base"))
    folder, adapter = adapted(BASE, tmp_path / "first")
    other = {**load_file(folder / "model.safetensors"), "layer.w": BASE["layer.w"] + 1}
    save_file(other, folder / "model.safetensors")
    digest = import_products(blobs, folder, base, adapter)
    assert read_manifest(blobs, digest).format == 1
    assert hash_folder(materialize(blobs, digest, tmp_path / "out")) == hash_folder(folder)


@pytest.mark.parametrize(
    "tensors",
    [
        {"model.safetensors:w:narrow": np.zeros((1, 2), np.float32)},
        {"model.safetensors:w:other": np.zeros((1, 2), np.float32)},
        {"w": np.zeros((1, 2), np.float32)},
        {"model.safetensors:w:narrow": np.zeros((1, 2), np.int32)},
    ],
)
def test_file_that_holds_no_whole_product_is_refused(tensors: dict[str, np.ndarray], tmp_path: Path) -> None:
    save_file(tensors, tmp_path / "adapter.safetensors")
    with pytest.raises(ConfigError, match="product"):
        read_low_rank(tmp_path / "adapter.safetensors")


def test_manifest_of_a_newer_format_is_refused() -> None:
    blobs = MemoryBlobs()
    digest = blobs.put(b'{"files":[],"format":3}')
    with pytest.raises(BlobCorrupt, match="format 3"):
        read_manifest(blobs, Digest(digest))
