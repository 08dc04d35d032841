"""The rows of a data set, and the file that they make."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final, Literal

import msgspec
from msgspec import Struct

from instar.fsm.words import Seq

Source = Literal["task", "failed_embedding", "code_diff", "log"]
SOURCES: Final[tuple[Source, ...]] = ("task", "failed_embedding", "code_diff", "log")

Verified = Literal["reference", "test", "correction", "agreement"]
"""Who says that an output is right: its own ``reference``; a ``test`` that ended well (a mutation's gate, an exit code
of 0); a ``correction``, which is another feedback's reference for the same input, or a rollback; or the ``agreement``
of somebody other than the agent that the answer passed."""

Split = Literal["train", "validation", "heldout", "memory"]
"""``train`` is learned from, ``validation`` stops and calibrates a training, ``heldout`` is the gate's sealed test,
``memory`` are old pairs that went well: rehearsed, and what must not be forgotten."""
SPLITS: Final[tuple[Split, ...]] = ("train", "validation", "heldout", "memory")


Grouping = Literal["answer", "input"]
"""By what rows that were told no group are grouped."""


class Row(Struct, frozen=True, kw_only=True):
    """One pair.

    Attributes:
        events: the positions that it rests on; none for a row from a log file.
        group: what is never cut in two by the split.
        negatives: answers that are wrong for it: known ones first, then the likeliest answers of others, mined.
        confusable: the nearest inputs whose answer is another, where answers recur.
        verified_by: who says that the output is right; None in data sets of before.
    """

    input: str
    output: str
    type: Source
    events: tuple[Seq, ...]
    group: str
    split: Split
    negatives: tuple[str, ...] = ()
    confusable: tuple[str, ...] = ()
    verified_by: Verified | None = None


class Dataset(Struct, frozen=True, kw_only=True):
    """Rows by split. ``sources`` counts the train rows by type, ``left_out`` what is in no row, by reason.

    ``grouping`` says by what each task type's rows are grouped.
    """

    train: list[Row]
    heldout: list[Row]
    sources: dict[str, int]
    left_out: dict[str, int]
    validation: list[Row] = []
    memory: list[Row] = []
    grouping: dict[str, Grouping] = {}

    @property
    def rows(self) -> list[Row]:
        """All rows, in the order of the file: train, validation, held out, memory."""
        return [*self.train, *self.validation, *self.heldout, *self.memory]

    def to_jsonl(self) -> bytes:
        """Writes one row a line, train first: the same bytes for the same records."""
        return b"".join(msgspec.json.encode(row) + b"\n" for row in self.rows)

    @staticmethod
    def parse(content: bytes) -> Dataset:
        """Reads what ``to_jsonl`` wrote. What was left out is not in the file, so ``left_out`` is empty."""
        rows = [msgspec.json.decode(line, type=Row) for line in content.split(b"\n") if line]
        return dataset_of_rows(rows, left_out={}, grouping={})


def dataset_of_rows(rows: Iterable[Row], *, left_out: dict[str, int], grouping: dict[str, Grouping]) -> Dataset:
    """Sorts rows into their splits, in the order in which they come."""
    held: dict[Split, list[Row]] = {split: [] for split in SPLITS}
    for row in rows:
        held[row.split].append(row)
    train = held["train"]
    return Dataset(
        train=train,
        validation=held["validation"],
        heldout=held["heldout"],
        memory=held["memory"],
        sources=dict(sorted(Counter(str(row.type) for row in train).items())),
        left_out=left_out,
        grouping=grouping,
    )


def corpus(dataset: Dataset) -> list[str]:
    """Lists the distinct known good outputs, sorted: the answers among which a retrieval has to find its own."""
    return sorted({row.output for row in dataset.rows})
