"""A second process of a replay: takes ranges until none is left, then prints what it found, one a line.

Standard input is a pipe that holds one byte for each range that nobody has taken; whoever reads the byte has the range.
The results go out at the end, so that nobody has to wait for a reader.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec
from msgspec import Struct

from instar.store.reader import LogReader

from .findings import RangeFound
from .levels import Level
from .ranges import Range, fold_range


class Order(Struct, frozen=True):
    """What a second process is to do."""

    path: str
    level: Level
    ranges: tuple[Range, ...]


def take(tokens: int) -> int | None:
    """Takes the next range from the pipe; None when there is none left."""
    token = os.read(tokens, 1)
    return token[0] if token else None


def main(arguments: list[str]) -> int:
    """Verifies ranges."""
    order = msgspec.json.decode(arguments[0], type=Order)
    reader = LogReader(Path(order.path))
    found: list[tuple[int, RangeFound]] = []
    while (number := take(0)) is not None:
        result, _ = fold_range(reader, order.ranges[number], order.level)
        found.append((number, result))
        if result.failure:
            break  # what comes later cannot be the first
    reader.close()
    sys.stdout.buffer.write(msgspec.json.encode(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
