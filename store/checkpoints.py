"""Checkpoints: a sentence-transformers model folder as a manifest of blobs, its weights taken apart by tensor.

What training did not touch has the same bytes, so the same name, so it is stored once. A folder comes back byte for
byte. Pickled weights are never read, never stored and never written (a pickle runs code when it is loaded), nor are
exports for other runtimes: beside newly trained weights they would be stale.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path, PurePosixPath

import msgspec

from instar.fsm.errors import BlobCorrupt, ConfigError
from instar.fsm.words import Digest, digest_of

from .locate import locate_model
from .low_rank_file import read_low_rank
from .manifest import (
    Manifest,
    PlainFile,
    Product,
    Shared,
    TensorEntry,
    TensorFile,
    read_manifest,
    tensors_shared,
)
from .model_folder import activate, hash_folder, materialize, walk_files
from .ports import Blobs
from .safetensors_header import Place, read_head
from .tensor_content import holds_nan, tensor_bytes

__all__ = [
    "Manifest",
    "PlainFile",
    "Shared",
    "TensorEntry",
    "TensorFile",
    "activate",
    "hash_folder",
    "import_checkpoint",
    "import_products",
    "locate_model",
    "materialize",
    "model_files",
    "read_manifest",
    "tensor_bytes",
    "tensors_shared",
]

logger = logging.getLogger("instar.store")

_PICKLES = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib"}
_LEFTOVERS = ("training_args", "optimizer", "scheduler", "scaler", "rng_state")
"""Pickles that a trainer leaves beside weights and that hold none."""
_EXPORTS = {".onnx", ".h5", ".ot", ".msgpack", ".tflite", ".mlmodel", ".gguf"}
_SKIPPED_FOLDERS = {".git", ".cache", "__pycache__", "onnx", "openvino", "coreml"}


def model_files(folder: Path) -> list[str]:
    """Lists the files of a model folder that belong to a checkpoint, as sorted relative POSIX paths.

    Raises:
        ConfigError: no folder, no safetensors weights, or weights that exist as a pickle only.
    """
    if not folder.is_dir():
        raise ConfigError(f"there is no model folder at {folder}")
    folder = folder.resolve()
    taken: list[str] = []
    pickles: list[PurePosixPath] = []
    for path in walk_files(folder, _SKIPPED_FOLDERS):
        if not path.as_posix().isprintable():
            raise ConfigError(f"{str(folder / path)!r} cannot be recorded by that name: rename it; nothing was stored")
        if path.suffix.lower() in _PICKLES or _looks_pickled(folder / path):
            pickles.append(path)
        elif path.suffix.lower() not in _EXPORTS:
            taken.append(path.as_posix())
    safe = {PurePosixPath(path).parent for path in taken if path.endswith(".safetensors")}
    for path in pickles:
        if path.parent not in safe and not path.name.startswith(_LEFTOVERS):
            raise ConfigError(
                f"{folder / path} holds weights as a pickle, which can run code when loaded, and there is no "
                "*.safetensors beside it. Save the model with safetensors and try again; nothing was stored."
            )
        logger.warning("left out the pickle %s: a checkpoint holds safetensors only", folder / path)
    if not safe:
        raise ConfigError(f"{folder} holds no *.safetensors file: give the folder of a saved model")
    return taken


def import_checkpoint(blobs: Blobs, folder: Path) -> Digest:
    """Stores a model folder and returns the name of its manifest, which is the name of the checkpoint.

    Raises:
        ConfigError: pickled weights, no weights, a malformed safetensors file, weights that are no numbers, or a
            file that changed meanwhile.
    """
    return _stored(blobs, folder, {})


def import_products(blobs: Blobs, folder: Path, base: Digest, adapter: Path) -> Digest:
    """Stores a model folder whose weights are a base's plus products, by those products alone.

    A tensor that is not to the bit what the base and the product give is stored whole.

    Args:
        blobs: where the base is stored.
        folder: the model folder, whole.
        base: the checkpoint that the products were added to.
        adapter: the products (see ``low_rank_file``).

    Raises:
        ConfigError: as ``import_checkpoint``; or the adapter is no sound safetensors file.
    """
    known = {
        (file.path, tensor.name): tensor
        for file in read_manifest(blobs, base).files
        if isinstance(file, TensorFile)
        for tensor in file.tensors
    }
    made: dict[tuple[str, str], TensorEntry] = {}
    for (path, name), (narrow, wide, scale) in read_low_rank(adapter).items():
        before = known.get((path, name))
        if before is None:
            continue
        product = Product(
            narrow=blobs.put(narrow.tobytes()), wide=blobs.put(wide.tobytes()), rank=len(narrow), scale=scale
        )
        origin = before.base or before.blob
        made[path, name] = msgspec.structs.replace(before, base=origin, products=(*before.products, product))
    return _stored(blobs, folder, made)


def _stored(blobs: Blobs, folder: Path, made: Mapping[tuple[str, str], TensorEntry]) -> Digest:
    files: list[PlainFile | TensorFile] = []
    for path in model_files(folder):
        if path.endswith(".safetensors"):
            files.append(_import_tensors(blobs, folder, path, made))
        else:
            content = (folder / path).read_bytes()
            files.append(PlainFile(path=path, size=len(content), sha256=blobs.put(content)))
    derived = any(tensor.products for file in files if isinstance(file, TensorFile) for tensor in file.tensors)
    return blobs.put(msgspec.json.encode(Manifest(format=2 if derived else 1, files=tuple(files)), order="sorted"))


def _import_tensors(blobs: Blobs, folder: Path, path: str, made: Mapping[tuple[str, str], TensorEntry]) -> TensorFile:
    whole = sha256()
    tensors = []
    with (folder / path).open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = read_head(file, size, folder / path)
        whole.update(head.raw)
        for place in head.places:
            content = file.read(place.end - place.begin)
            if len(content) != place.end - place.begin:
                raise ConfigError(f"{folder / path} became shorter while it was read: try again when nobody writes it")
            whole.update(content)
            if holds_nan(place.dtype, content):
                raise ConfigError(
                    f"tensor {place.name} of {folder / path} holds NaN: such weights give no vector. Take them from "
                    "where they are sound; no checkpoint was made."
                )
            tensors.append(_entry(blobs, place, content, made.get((path, place.name))))
    return TensorFile(
        path=path,
        size=size,
        sha256=Digest(whole.hexdigest()),
        header=blobs.put(head.raw),
        tensors=tuple(tensors),
    )


def _entry(blobs: Blobs, place: Place, content: bytes, made: TensorEntry | None) -> TensorEntry:
    if made is not None:
        entry = TensorEntry(**place._asdict(), blob=digest_of(content), base=made.base, products=made.products)
        try:
            if tensor_bytes(blobs, entry) == content:
                return entry
        except BlobCorrupt:
            logger.warning("tensor %s is stored whole: it is not what its products give", place.name)
    return TensorEntry(**place._asdict(), blob=blobs.put(content))


def _looks_pickled(path: Path) -> bool:
    """Recognises a pickle or torch's zip of pickles by its first bytes, whatever its name is."""
    if path.suffix == ".safetensors":  # begins with a length, which may look like anything; read_head judges it
        return False
    with path.open("rb") as file:
        begin = file.read(4)
    return begin == b"PK\x03\x04" or (begin[:1] == b"\x80" and begin[1:2] in {b"\x02", b"\x03", b"\x04", b"\x05"})
