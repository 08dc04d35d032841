"""Durable appends, one and 1,000 a commit, against a bare SQLite table and against ``eventsourcing``.

The log and the library do the same work: each makes the event and takes it in (the log's machine, the library's
aggregate), encodes it and records it. What the library's ``save`` takes when the aggregate has taken its events in
beforehand is shown too. The bare table's rows and hashes are made before the clock starts.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from instar.fsm.codec import encode_event
from instar.store.log import Pending

from .bare_table import BareRow, bare_rows, fdatasync_us, insert_bare, open_bare
from .compare import Work, compare
from .goals import Measure, Row, absent
from .sample_log import feedback, fresh_log

SINGLES, BATCH, ROUNDS = 50, 1000, 40
"""Short turns: the disk's moods then fall on all ways alike."""

Ways = dict[str, Work]


def main() -> list[Row]:
    """Runs both comparisons; gives three rows of the table of goals."""
    missing = absent("eventsourcing")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        singles, batches = _ours(folder)
        for found in (_theirs(folder) if not missing else ({}, {}), _bare(folder)):
            singles.update(found[0])
            batches.update(found[1])
        size = len(encode_event(feedback(0)))
        print(f"an event: {size} bytes of JSON; a bare fdatasync of 4 KiB: {fdatasync_us(folder):.0f} µs")
        single = compare("durable append, one a commit", singles, rounds=ROUNDS, unit="events/s")
        batch = compare("durable append, 1000 a commit", batches, rounds=ROUNDS, unit="events/s")
    work, theirs = "durable append, typed, chained, one a commit", "eventsourcing Application.save, SQLite"
    rows = [Row(work, "raw sqlite3 WAL/FULL insert of the same bytes", (_ratio(single, "bare sqlite3", 0.75),))]
    for what, medians, goal in ((work, single, 1.2), ("append in batches of 1,000", batch, 2.0)):
        measures = () if missing else (_ratio(medians, "eventsourcing", goal),)
        rows.append(Row(what, theirs, measures, missing))
    return rows


def _ratio(medians: dict[str, float], peer: str, goal: float) -> Measure:
    return Measure(medians["instar"] / medians[peer], goal)


def _ours(folder: Path) -> tuple[Ways, Ways]:
    log = fresh_log(folder)

    def single() -> int:
        for number in range(SINGLES):
            log.append(feedback(number))
        return SINGLES

    def batch() -> int:
        log.transact(lambda _: [Pending(feedback(number)) for number in range(BATCH)])
        return BATCH

    return {"instar": single}, {"instar": batch}


def _bare(folder: Path) -> tuple[Ways, Ways]:
    table = open_bare(folder / "bare.db")
    one_by_one = iter([bare_rows(1 + number * SINGLES, SINGLES) for number in range(ROUNDS)])
    first = 1 + ROUNDS * SINGLES
    at_once: Iterator[list[BareRow]] = iter([bare_rows(first + number * BATCH, BATCH) for number in range(ROUNDS)])

    def single() -> int:
        for row in next(one_by_one):
            insert_bare(table, [row])
        return SINGLES

    def batch() -> int:
        insert_bare(table, next(at_once))
        return BATCH

    return {"bare sqlite3": single}, {"bare sqlite3": batch}


def _theirs(folder: Path) -> tuple[Ways, Ways]:
    from .eventsourcing_peer import new_agent, open_application, receive, settings_of

    application = open_application(folder / "eventsourcing.db")
    print(f"eventsourcing: {settings_of(application)}")
    agent, full = new_agent(application), [new_agent(application) for _ in range(ROUNDS)]
    ready = iter(full)

    def single() -> int:
        for number in range(SINGLES):
            receive(agent, number)
            application.save(agent)
        return SINGLES

    def batch() -> int:
        for number in range(BATCH):
            receive(agent, number)
        application.save(agent)
        return BATCH

    def save_alone() -> int:
        application.save(next(ready))
        return BATCH

    for one in full:
        for number in range(BATCH):
            receive(one, number)
    return {"eventsourcing": single}, {"eventsourcing": batch, "eventsourcing, save alone": save_alone}
