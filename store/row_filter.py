"""Which rows of memory a search may give, told over whole columns: no row is looked at by itself."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from instar.fsm.events import Span

from .memory_row import MemoryRow

_FIRST_CAPACITY = 256


class RowFilter(Struct, frozen=True, kw_only=True):
    """What a row must be; what is None admits every row, and an empty collection none.

    Names are whole names; one that ends in ``*`` admits every name that begins so.
    """

    kinds: Collection[str] | None = None
    task_types: Collection[str] | None = None
    units: Collection[str] | None = None
    since_us: int | None = None
    """Recorded at this time or later, microseconds since 1970 UTC."""
    until_us: int | None = None
    """Recorded at this time or earlier."""
    within: Sequence[Span] | None = None
    """Embedded at these positions of the log; this is how a rollback hides later rows."""


EVERYTHING = RowFilter()


class _Names:
    """The names in one column, each with a number; a row without a name has the number 0."""

    def __init__(self) -> None:
        self._codes: dict[str | None, int] = {None: 0}

    def code(self, name: str | None) -> int:
        return self._codes.setdefault(name, len(self._codes))

    def known(self, name: str) -> int | None:
        """Gives the number of a name; None if no row ever had it."""
        return self._codes.get(name)

    def admitted(self, wanted: Collection[str]) -> NDArray[np.bool_]:
        """Says of each number whether its name is wanted."""
        exact = {name for name in wanted if not name.endswith("*")}
        starts = tuple(name[:-1] for name in wanted if name.endswith("*"))
        found = np.zeros(len(self._codes), np.bool_)
        for name, code in self._codes.items():
            found[code] = name is not None and (name in exact or name.startswith(starts) or name in wanted)
        return found


class RowTable:
    """The columns of rows by which they are filtered, one place a row, in the order in which rows came."""

    def __init__(self) -> None:
        self.count = 0
        self._first, self._last = 1 << 62, 0
        """Positions around every row."""
        self._names = {"kind": _Names(), "task_type": _Names(), "unit": _Names()}
        self._columns = {name: np.zeros(_FIRST_CAPACITY, np.int32) for name in self._names}
        self._columns |= {name: np.zeros(_FIRST_CAPACITY, np.int64) for name in ("seq", "at_us")}

    def append(self, rows: Sequence[MemoryRow]) -> None:
        """Takes rows at the next places."""
        start, self.count = self.count, self.count + len(rows)
        self._widen(rows)
        for name, column in self._columns.items():
            if self.count > len(column):
                grown = np.zeros(max(self.count, 2 * len(column)), column.dtype)
                grown[:start] = column[:start]
                self._columns[name] = grown
            self._columns[name][start : self.count] = self._values(name, rows)

    def replace(self, place: int, row: MemoryRow) -> None:
        """Puts another row at a place."""
        self._widen([row])
        for name, column in self._columns.items():
            (column[place],) = self._values(name, [row])

    def admits_all(self, wanted: RowFilter) -> bool:
        """Says of a filter that is none, or only of spans that lie around every row, that it admits every row."""
        named = wanted.kinds is not None or wanted.task_types is not None or wanted.units is not None
        if named or wanted.since_us is not None or wanted.until_us is not None:
            return False
        if wanted.within is None:
            return True
        return any(span.first <= self._first and self._last <= span.last for span in wanted.within)

    def matching(self, wanted: RowFilter, among: NDArray[np.intp] | None = None) -> NDArray[np.intp]:
        """Gives the places of the rows that are admitted, in ascending order.

        Args:
            wanted: what a row must be.
            among: the places to look at, in ascending order; all of them by default.
        """
        looked_at = np.arange(self.count) if among is None else among
        if not len(looked_at):
            return looked_at
        admitted = np.ones(len(looked_at), np.bool_)
        column = {
            name: values[: self.count] if among is None else values[among] for name, values in self._columns.items()
        }
        for name, names in (("kind", wanted.kinds), ("task_type", wanted.task_types), ("unit", wanted.units)):
            if names is not None:
                admitted &= self._names[name].admitted(names)[column[name]]
        if wanted.since_us is not None:
            admitted &= column["at_us"] >= wanted.since_us
        if wanted.until_us is not None:
            admitted &= column["at_us"] <= wanted.until_us
        if wanted.within is not None:
            admitted &= _inside(column["seq"], wanted.within)
        return looked_at if admitted.all() else looked_at[admitted]

    def of_task(self, task_type: str, within: Sequence[Span] | None) -> NDArray[np.intp]:
        """Gives the places of the rows of one task type, by the position that they were embedded at."""
        code = self._names["task_type"].known(task_type)
        if code is None:
            return np.zeros(0, np.intp)
        places = np.flatnonzero(self._columns["task_type"][: self.count] == code)
        seqs = self._columns["seq"][places]
        if within is not None:
            admitted = _inside(seqs, within)
            places, seqs = places[admitted], seqs[admitted]
        return places[np.argsort(seqs, kind="stable")]

    def _widen(self, rows: Sequence[MemoryRow]) -> None:
        self._first = min([self._first, *(row.seq for row in rows)])
        self._last = max([self._last, *(row.seq for row in rows)])

    def _values(self, name: str, rows: Iterable[MemoryRow]) -> list[int]:
        names = self._names.get(name)
        if names is None:
            return [getattr(row, name) for row in rows]
        return [names.code(getattr(row, name)) for row in rows]


def _inside(seqs: NDArray[np.signedinteger], spans: Sequence[Span]) -> NDArray[np.bool_]:
    found = np.zeros(len(seqs), np.bool_)
    for span in spans:
        found |= (seqs >= span.first) & (seqs <= span.last)
    return found
