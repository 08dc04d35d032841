"""The head of a safetensors file: what tensors lie where (https://huggingface.co/docs/safetensors).

A file is eight bytes (the length of the header, little-endian), the header as JSON, then the tensors' bytes without a
gap. Read here, not by the library: it gives copies of tensors, and a store needs their exact places.
"""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from instar.fsm.errors import ConfigError

HEADER_BYTES_MAX = 100_000_000
"""The format's own limit."""
_LENGTH_BYTES = 8
_BITS = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 64),
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
}


class Place(NamedTuple):
    """A tensor: its bytes are ``begin`` to ``end`` of what follows the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class Head(NamedTuple):
    """The first bytes of the file as they are, and the tensors in the order of their bytes."""

    raw: bytes
    places: list[Place]


def read_head(file: BinaryIO, size: int, path: Path) -> Head:
    """Reads and checks the head of a file of ``size`` bytes; the file then stands at the first tensor.

    Raises:
        ConfigError: it is no safetensors file, or its tensors overlap, leave a gap or reach beyond its end.
    """
    prefix = file.read(_LENGTH_BYTES)
    length = int.from_bytes(prefix, "little")
    if len(prefix) < _LENGTH_BYTES or not 2 <= length <= min(HEADER_BYTES_MAX, size - _LENGTH_BYTES):
        raise _refused(path, f"a header of {length} bytes does not fit a file of {size} bytes")
    raw = file.read(length)
    if len(raw) < length:
        raise _refused(path, "it ends within its header")
    try:
        header = json.loads(raw.decode("utf-8"), object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise _refused(path, f"its header is no JSON object ({error})") from error
    if not isinstance(header, dict) or not raw.startswith(b"{"):
        raise _refused(path, "its header is no JSON object")
    places = [_place(name, entry, path) for name, entry in header.items() if name != "__metadata__"]
    places.sort(key=lambda place: (place.begin, place.end))
    position = 0
    for place in places:
        if place.begin != position:
            what = "overlaps the one before it" if place.begin < position else "leaves a gap before it"
            raise _refused(path, f"tensor {place.name!r} {what}")
        position = place.end
    if position != size - _LENGTH_BYTES - length:
        raise _refused(path, f"its tensors end at byte {position}, its content at {size - _LENGTH_BYTES - length}")
    return Head(prefix + raw, places)


def _place(name: str, entry: Any, path: Path) -> Place:
    try:
        dtype, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        bits = _BITS[dtype]
    except (KeyError, TypeError, ValueError) as error:
        raise _refused(path, f"tensor {name!r} is described wrongly ({error!r})") from error
    if any(type(number) is not int or number < 0 for number in (*shape, begin, end)):
        raise _refused(path, f"tensor {name!r} has a size or a place that is no whole number")
    if (end - begin) * 8 != prod(shape) * bits:
        raise _refused(path, f"tensor {name!r} of shape {shape} and type {dtype} cannot fill {end - begin} bytes")
    return Place(name, dtype, shape, begin, end)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _refused(path: Path, reason: str) -> ConfigError:
    return ConfigError(f"{path} is no sound safetensors file: {reason}. Fetch or export the model again.")
