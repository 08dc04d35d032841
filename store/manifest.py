"""What a checkpoint is made of: the manifest that names its files and tensors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

import msgspec
from msgspec import Struct

from instar.fsm.errors import BlobCorrupt
from instar.fsm.words import Digest

from .ports import Blobs

_FORMATS = (1, 2)


class Product(Struct, frozen=True, kw_only=True):
    """Two small matrices, float32, whose product is added to a tensor: (rank, in) and (out, rank)."""

    narrow: Digest
    wide: Digest
    rank: int
    scale: float


class TensorEntry(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A tensor; ``begin`` and ``end`` count from the first byte after the header.

    ``blob`` is the hash of its bytes. Where ``products`` are named, those bytes are not stored: they are what ``base``
    holds with one product after the other added (``store/low_rank.py``).
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int
    blob: Digest
    base: Digest | None = None
    products: tuple[Product, ...] = ()

    @property
    def stored(self) -> tuple[Digest, ...]:
        """The blobs that it is made of."""
        if self.base is None:
            return (self.blob,)
        return (self.base, *(part for product in self.products for part in (product.narrow, product.wide)))


class PlainFile(Struct, frozen=True, kw_only=True, tag="plain"):
    """A small file, stored whole."""

    path: str
    size: int
    sha256: Digest


class TensorFile(Struct, frozen=True, kw_only=True, tag="tensors"):
    """A safetensors file; ``header`` is the blob of its first bytes, up to the first tensor."""

    path: str
    size: int
    sha256: Digest
    header: Digest
    tensors: tuple[TensorEntry, ...]


class Manifest(Struct, frozen=True, kw_only=True):
    """All files of a checkpoint, by path. Format 2 has tensors that are not stored themselves."""

    format: int = 1
    files: tuple[PlainFile | TensorFile, ...]


class Shared(Struct, frozen=True, kw_only=True):
    """How many tensors (and bytes) of a checkpoint another one holds too, out of how many."""

    tensors: int
    tensors_all: int
    bytes: int
    bytes_all: int


def read_manifest(blobs: Blobs, digest: Digest) -> Manifest:
    """Reads a manifest; its paths are safe to write beneath a folder.

    Raises:
        BlobMissing: there is no such checkpoint.
        BlobCorrupt: the blob is something else, or leads out of its folder.
    """
    try:
        manifest = msgspec.json.decode(blobs.get(digest), type=Manifest)
        if manifest.format not in _FORMATS:
            raise BlobCorrupt(f"checkpoint {digest} has format {manifest.format}: install the Instar that wrote it")
    except msgspec.DecodeError as error:
        raise BlobCorrupt(
            f"blob {digest} is no manifest of a checkpoint ({error}); give a checkpoint's name"
        ) from error
    for file in manifest.files:
        path = PurePosixPath(file.path)
        if (
            path.is_absolute()
            or ".." in path.parts
            or path.as_posix() != file.path
            or not path.name
            or "\0" in file.path
        ):
            raise BlobCorrupt(f"checkpoint {digest} names the file {file.path!r}, which leads out of its folder")
    return manifest


def tensors_shared(a: Manifest, b: Manifest) -> Shared:
    """Counts what of checkpoint ``b`` is stored with ``a`` already."""
    known = {tensor.blob for tensor in _tensors(a)}
    every = list(_tensors(b))
    same = [tensor for tensor in every if tensor.blob in known]
    return Shared(
        tensors=len(same),
        tensors_all=len(every),
        bytes=sum(tensor.end - tensor.begin for tensor in same),
        bytes_all=sum(tensor.end - tensor.begin for tensor in every),
    )


def _tensors(manifest: Manifest) -> Iterator[TensorEntry]:
    for file in manifest.files:
        if isinstance(file, TensorFile):
            yield from file.tensors
