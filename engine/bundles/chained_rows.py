"""The rows of the log in order, each verified against its hashes and the row before it. Folds nothing."""

from __future__ import annotations

from collections.abc import Iterator

from instar.engine.replay.chain import check_row, chunks, missing, place_before, whole
from instar.fsm.words import Seq
from instar.store.columns import columns_of
from instar.store.reader import COLUMNS, LogReader, Row

NAMES = tuple(COLUMNS.split(", "))
"""The columns of a raw row, in order."""


def chained_rows(reader: LogReader, first: Seq, last: Seq) -> Iterator[Row]:
    """Yields the rows from ``first`` to ``last``, both included, each verified; what stands before is taken as it is.

    Raises:
        LogCorrupt: a row is missing, does not fit its hash, or does not follow from the row before it.
    """
    place = place_before(reader, first)
    for rows in chunks(reader, first, last):
        columns = columns_of(rows)
        if columns is not None and whole(columns, place):
            yield from rows
            place.move(rows[-1])
        else:
            for row in rows:
                check_row(row, place)
                yield row
    if place.seq != last:
        raise missing(Seq(place.seq + 1), None)
