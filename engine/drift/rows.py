"""Rows ``{path, before, after}`` in, one score a row out: for those who have many edits to judge."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec
from msgspec import Struct

from instar.fsm.errors import InputRefused

from .compare import compare
from .result import Drift


class Edit(Struct, frozen=True):
    """One edit; other fields of a row are left alone."""

    path: str
    before: str
    after: str


class Scored(Struct, frozen=True):
    """One score, as a line of JSON tells it."""

    path: str
    drift: float
    similarity: float
    changed: bool
    how: str
    because: tuple[str, ...]


class Row(NamedTuple):
    """An edit and the number of its line, counted from 1."""

    line: int
    edit: Edit


def edits(lines: Iterable[bytes], name: str) -> list[Row]:
    """Reads all rows, so that a broken one is found before the first score is told; blank lines are skipped.

    Args:
        lines: of a JSONL file.
        name: what the file is called in an error.

    Raises:
        InputRefused: a line is no JSON object with the texts ``path``, ``before`` and ``after``.
    """
    decoder = msgspec.json.Decoder(Edit)
    found: list[Row] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found.append(Row(number, decoder.decode(line)))
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise InputRefused(
                f'{name}, line {number}: {error}. A row is {{"path": …, "before": …, "after": …}}, three texts. '
                f"Nothing was scored."
            ) from error
    return found


def scores(rows: Iterable[Row]) -> Iterator[Scored]:
    """Scores rows one by one."""
    for row in rows:
        yield scored(row.edit.path, compare(row.edit.path, row.edit.before, row.edit.after))


def scored(path: str, drift: Drift) -> Scored:
    """Gives a score without its parts."""
    return Scored(path, drift.drift, drift.similarity, drift.changed, drift.how, drift.because)
