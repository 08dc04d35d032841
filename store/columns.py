"""A stretch of the log column by column: what a verification of many rows reads, with one step of SQL for all of them.

A row that comes into Python by itself costs more than SQLite takes to find it. Here SQLite joins the values of each
column into one text, which one call splits again; a verification then compares whole columns. What cannot be told from
such a text makes ``read_columns`` give nothing: a value of another type than its column should hold, a payload that was
erased, a separator within a value. Whoever asked then reads the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import NoneType
from typing import Final, NamedTuple

from instar.fsm.errors import LogCorrupt
from instar.fsm.words import Seq

from .ports import Row
from .reader import COLUMNS, LogReader

_TEXTS: Final = ("type", "actor", "state_before", "state_after", "payload", "payload_hash", "prev_hash", "hash")
_NUMBERS: Final = ("version", "recorded_at_us", "cycle")
_ABSENT: Final = ("key", "state_digest")
"""Texts that may be NULL, which is read as empty text; what is empty without being NULL is not read at all."""


class Columns(NamedTuple):
    """The values of rows that follow each other, in order, each as the text that the chain hashes."""

    first: Seq
    """The position of the first row, as it was asked for."""
    seqs: str
    """All of them, parted by commas; so are the hashes and ``befores``. They are only compared."""
    payloads: list[bytes]
    payload_hashes: str
    prev_hashes: str
    hashes: str
    befores: str
    kinds: list[str]
    versions: list[str]
    times: list[str]
    cycles: list[str]
    causes: list[str]
    actors: list[str]
    afters: list[str]
    keys: list[str]
    digests: list[str]


_ORDER: Final = (
    *("seq", "payload", "payload_hash", "prev_hash", "hash", "state_before", "type", "version", "recorded_at_us"),
    *("cycle", "cause", "actor", "state_after", "key", "state_digest"),
)
"""The columns of the log in the order of ``Columns``."""
_FREE: Final = ("payload", "actor", "key")
"""What may hold a comma, and is therefore joined by line feeds; SQLite's own separator costs less."""


def _statement() -> str:
    """Selects each column of a stretch as one text, of the rows that hold what they should and of no others.

    SQLite orders values by their types: numbers come before all texts, and texts before all blobs. NULL compares with
    nothing.
    """
    right = [f"{name} < x''" for name in _TEXTS]
    right += [f"{name} < ''" for name in _NUMBERS] + ["(cause IS NULL OR cause < '')"]
    right += [f"({name} IS NULL OR {name} > '' AND {name} < x'')" for name in _ABSENT]
    given = [f"ifnull({name}, '')" if name in (*_ABSENT, "cause") else name for name in _ORDER]
    ends = [", '\n'" if name in _FREE else "" for name in _ORDER]
    joined = ", ".join(f"group_concat({each}{end})" for each, end in zip(given, ends, strict=True))
    return f"SELECT count(*), {joined} FROM events WHERE seq >= ? AND seq <= ? AND {' AND '.join(right)}"


_STATEMENT: Final = _statement()


def read_columns(reader: LogReader, first: Seq, last: Seq) -> Columns | None:
    """Reads the rows from ``first`` to ``last``, both included; gives None if they must be read one by one.

    That the rows come in order is for the caller to see: nothing here depends on it.
    """
    if reader.place.url is not None:
        return columns_of([*reader.rows(first, last, chunk_max=last - first + 1)])
    try:
        count, *texts = reader.query(_STATEMENT, (first, last))[0]
    except LogCorrupt:
        return None  # whoever reads the rows is told which
    return _apart(first, count, texts) if count == last - first + 1 else None


def columns_of(rows: Sequence[Row]) -> Columns | None:
    """Gives rows that were read one by one as ``read_columns`` would."""
    if not rows:
        return None
    columns = dict(zip(COLUMNS.split(", "), zip(*rows, strict=True), strict=True))
    right = (
        all(set(map(type, columns[name])) == {str} for name in _TEXTS)
        and all(set(map(type, columns[name])) == {int} for name in ("seq", *_NUMBERS))
        and set(map(type, columns["cause"])) <= {int, NoneType}
        and all(set(map(type, columns[name])) <= {str, NoneType} and "" not in columns[name] for name in _ABSENT)
    )
    if not right:
        return None
    texts = [["" if value is None else str(value) for value in columns[name]] for name in _ORDER]
    return _apart(
        rows[0][0], len(rows), [_separator(name).join(text) for name, text in zip(_ORDER, texts, strict=True)]
    )


def _apart(first: Seq, count: int, texts: Sequence[str]) -> Columns | None:
    """Takes the texts apart. Of ``count`` values, one has more parts if a value holds a separator, and never fewer."""
    seqs, payloads, payload_hashes, prev_hashes, hashes, befores, *others = texts
    contents = payloads.encode().split(b"\n")
    parts = [text.split(_separator(name)) for name, text in zip(_ORDER[6:], others, strict=True)]
    if len(contents) != count or any(len(part) != count for part in parts):
        return None
    return Columns(first, seqs, contents, payload_hashes, prev_hashes, hashes, befores, *parts)


def _separator(name: str) -> str:
    return "\n" if name in _FREE else ","
