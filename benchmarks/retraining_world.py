"""The world of the learning benchmark: requests with a right answer, of which an agent knows five examples each."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

from instar.engine.evaluation.rows import Labelled, read_rows

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
BANKING = SHARED / "intents" / "banking77.jsonl"
CLINC = SHARED / "intents" / "clinc150.jsonl"
HWU = SHARED / "intents" / "hwu64.jsonl"
STS = SHARED / "similarity" / "sts_ccbysa.jsonl"
EXAMPLES = 5
STREAM = 1000


class World(NamedTuple):
    """What one agent meets: ``memory`` at first, then the ``streams``; ``asked`` judges and is never told."""

    memory: list[Labelled]
    streams: list[list[Labelled]]
    asked: list[Labelled]
    others: tuple[Path, ...]
    """What is not to be forgotten: the nearest example in two other fields."""


def absent_reason() -> str:
    """Says why the benchmark cannot run; empty if it can."""
    missing = [path.name for path in (BANKING, CLINC, HWU, STS) if not path.is_file()]
    return f"skipped: {', '.join(missing)} not found under {SHARED}" if missing else ""


def world(seed: int, streams: int, field: Path = BANKING) -> World:
    """Draws the examples of a field and the order of its requests; the seed decides both."""
    rows = labelled(field)
    train = [row for row in rows if row.split == "train"]
    memory, rest = parted(train, seed)
    Random(seed).shuffle(rest)
    return World(
        memory,
        [rest[number * STREAM : (number + 1) * STREAM] for number in range(streams)],
        [row for row in rows if row.split == "test"],
        tuple(path for path in (BANKING, CLINC, HWU) if path != field),
    )


def labelled(path: Path) -> list[Labelled]:
    """Reads requests; what belongs to no intent is left out, and folds 1 to 3 of HWU64 are asked."""
    if path == HWU:
        folds = [json.loads(line) for line in path.read_bytes().splitlines()]
        return [Labelled(row["text"], row["intent"], "test" if row["fold"] <= 3 else "train") for row in folds]
    return [row for row in read_rows(path) if isinstance(row, Labelled) and row.intent != "oos"]


def parted(rows: Sequence[Labelled], seed: int) -> tuple[list[Labelled], list[Labelled]]:
    """Takes five rows of each intent, by chance, and gives them and the others."""
    shuffled = list(rows)
    Random(seed).shuffle(shuffled)
    taken: defaultdict[str, int] = defaultdict(int)
    first: list[Labelled] = []
    rest: list[Labelled] = []
    for row in shuffled:
        taken[row.intent] += 1
        (first if taken[row.intent] <= EXAMPLES else rest).append(row)
    return first, rest
