"""The products that a training leaves beside a model folder: one safetensors file, read here without a library.

For each tensor that has a product it holds ``FILE:TENSOR:narrow``, (rank, in), ``FILE:TENSOR:wide``, (out, rank), and
``FILE:TENSOR:scale``, one double.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from instar.fsm.errors import ConfigError

from .safetensors_header import read_head

NARROW, WIDE, SCALE = "narrow", "wide", "scale"
_TYPES = {"F32": "<f4", "F64": "<f8"}


class LowRank(NamedTuple):
    """The matrices of a product and what it counts."""

    narrow: NDArray[np.float32]
    wide: NDArray[np.float32]
    scale: float


def read_low_rank(path: Path) -> dict[tuple[str, str], LowRank]:
    """Reads the products by file and tensor.

    Raises:
        ConfigError: it is no sound safetensors file, or holds something else.
    """
    parts: dict[tuple[str, str], dict[str, NDArray[np.float64]]] = {}
    with path.open("rb") as file:
        head = read_head(file, path.stat().st_size, path)
        for place in head.places:
            where, _, kind = place.name.rpartition(":")
            model_file, _, tensor = where.partition(":")
            if place.dtype not in _TYPES or kind not in (NARROW, WIDE, SCALE) or not tensor:
                raise ConfigError(f"{path} holds {place.name!r} of type {place.dtype}: that is no part of a product")
            content = np.frombuffer(file.read(place.end - place.begin), dtype=_TYPES[place.dtype])
            parts.setdefault((model_file, tensor), {})[kind] = content.reshape(place.shape)
    found = {}
    for key, kinds in parts.items():
        if len(kinds) != 3 or kinds[NARROW].ndim != 2 or kinds[WIDE].ndim != 2:
            raise ConfigError(f"{path} lacks a part of the product for tensor {key[1]}")
        narrow, wide = kinds[NARROW].astype("<f4"), kinds[WIDE].astype("<f4")
        found[key] = LowRank(narrow, wide, float(kinds[SCALE].reshape(-1)[0]))
    return found
