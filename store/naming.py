"""What an event names: blobs, trees and checkpoints, by the declared type of its fields; and what those are made of."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, Literal, get_args

import msgspec
from msgspec import Struct

from instar.fsm.errors import BlobCorrupt
from instar.fsm.events import PayloadErased
from instar.fsm.words import Digest

from .ports import Blobs

Kind = Literal["blob", "tree", "checkpoint"]

_TREES = {"tree", "tree_before", "tree_after"}
_CHECKPOINTS = {"checkpoint", "base", "origin"}
_NO_BLOBS = {"space", "prev_hash", "payload_hash"}


def digests_of(event: Struct) -> Iterator[tuple[Kind, Digest]]:
    """Yields the blobs, trees and checkpoints that an event names."""
    for _, kind, digest in fields_of(event):
        yield kind, digest


def fields_of(event: Struct) -> Iterator[tuple[str, Kind, Digest]]:
    """Yields the same with the name of the field, of an inner value where it stands in one."""
    for name, kind in _fields(type(event)):
        value = getattr(event, name)
        for inner in value if isinstance(value, tuple) else (value,):
            if isinstance(inner, Struct):
                yield from fields_of(inner)
            elif isinstance(inner, str):
                yield name, kind, Digest(inner)


@cache
def _fields(struct: type[Struct]) -> tuple[tuple[str, Kind], ...]:
    """Finds the fields of a type in which a digest can stand, itself or in what they hold."""
    if struct is PayloadErased:  # what it names is gone
        return ()
    found: list[tuple[str, Kind]] = []
    for field in msgspec.structs.fields(struct):
        if field.name not in _NO_BLOBS and _can_hold(field.type):
            kind: Kind = "tree" if field.name in _TREES else "checkpoint" if field.name in _CHECKPOINTS else "blob"
            found.append((field.name, kind))
    return tuple(found)


def _can_hold(declared: Any) -> bool:
    """Says whether a digest can stand in a value of a declared type."""
    if isinstance(declared, type) and issubclass(declared, Struct):
        return bool(_fields(declared))
    return declared is Digest or any(map(_can_hold, get_args(declared)))


class _File(Struct, gc=False):
    blob: Digest


class Below(Struct):
    """What a tree node names, without the checks of who restores it: files by name, folders by name."""

    files: dict[str, _File]
    folders: dict[str, Digest]


decode_below = msgspec.json.Decoder(Below).decode
"""Reads the bytes of a node; raises ``msgspec.DecodeError`` for others."""


def below(blobs: Blobs, node: Digest) -> Below:
    """Reads what a tree node names.

    Raises:
        BlobMissing: it is not in the store.
        BlobCorrupt: it does not hash to its name, or is no node.
    """
    try:
        return decode_below(blobs.get(node))
    except msgspec.DecodeError as error:
        raise BlobCorrupt(f"blob {node} is no node of a tree ({error}): run `instar verify`") from error


def parts_of_checkpoint(blobs: Blobs, digest: Digest) -> Iterator[Digest]:
    """Yields every blob of a checkpoint, its manifest first.

    Raises:
        BlobMissing, BlobCorrupt: the manifest cannot be read.
    """
    from .manifest import TensorFile, read_manifest  # it takes numpy, which an append does not

    manifest = read_manifest(blobs, digest)
    yield digest
    for file in manifest.files:
        if isinstance(file, TensorFile):
            yield file.header
            yield from (part for tensor in file.tensors for part in tensor.stored)
        else:
            yield file.sha256
