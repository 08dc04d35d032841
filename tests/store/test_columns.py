"""A stretch of the log read column by column is what its rows are, or it is not given at all."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from instar.fsm.words import Seq
from instar.store.columns import Columns, columns_of, read_columns
from instar.store.log import EventLog, Pending
from instar.store.reader import COLUMNS, LogReader
from tests.store.logs import feedback, fresh_log

ROWS = 70


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    log = fresh_log(tmp_path)
    log.transact(lambda _: [Pending(feedback(n), key=f"k,{n}" if n % 3 else None) for n in range(ROWS - 1)])
    return log


def altered(log: EventLog, folder: Path, *statements: str) -> LogReader:
    """A copy whose table of events takes values of every type, as one has who writes the file by himself."""
    folder.mkdir()
    with closing(sqlite3.connect(log.path)) as source:
        source.execute("VACUUM INTO ?", (str(folder / "log.db"),))
    with closing(sqlite3.connect(folder / "log.db")) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute("CREATE TABLE others AS SELECT * FROM events")
        connection.execute("DROP TABLE events")
        connection.execute("ALTER TABLE others RENAME TO events")
        for statement in statements:
            connection.execute(statement)
        connection.commit()
    return LogReader(folder / "log.db")


def of(columns: Columns, name: str) -> list[str]:
    """The values of a column by its name in the log."""
    places = {"seq": "seqs", "type": "kinds", "version": "versions", "recorded_at_us": "times", "cycle": "cycles"}
    places |= {"cause": "causes", "actor": "actors", "state_before": "befores", "state_after": "afters", "key": "keys"}
    places |= {"payload": "payloads", "payload_hash": "payload_hashes", "prev_hash": "prev_hashes", "hash": "hashes"}
    found = getattr(columns, (places | {"state_digest": "digests"})[name])
    parts = found.split(",") if isinstance(found, str) else found
    return [part.decode() if isinstance(part, bytes) else part for part in parts]


def test_columns_hold_what_the_rows_do(log: EventLog) -> None:
    columns = read_columns(log.reader, Seq(1), Seq(ROWS))
    assert columns is not None
    rows = list(log.reader.rows())
    assert columns == columns_of(rows)
    for place, name in enumerate(COLUMNS.split(", ")):
        assert of(columns, name) == ["" if row[place] is None else str(row[place]) for row in rows]


def test_part_of_a_log_is_read(log: EventLog) -> None:
    for first, last in ((1, 1), (ROWS, ROWS), (5, 60)):
        columns = read_columns(log.reader, Seq(first), Seq(last))
        assert columns == columns_of(list(log.reader.rows(first, last)))


def test_rows_that_are_not_all_there_are_not_given(log: EventLog, tmp_path: Path) -> None:
    assert read_columns(log.reader, Seq(60), Seq(ROWS + 1)) is None
    assert read_columns(log.reader, Seq(ROWS + 1), Seq(ROWS + 2)) is None
    assert columns_of([]) is None
    with closing(altered(log, tmp_path / "gap", "DELETE FROM events WHERE seq = 7")) as reader:
        assert read_columns(reader, Seq(1), Seq(10)) is None


@pytest.mark.parametrize(
    "value",
    [
        *(f"{name} = CAST({name} AS BLOB)" for name in COLUMNS.split(", ") if name not in ("seq", "state_digest")),
        *(f"{name} = NULL" for name in COLUMNS.split(", ") if name not in ("seq", "cause", "key", "state_digest")),
        *(f"{name} = 'x'" for name in ("version", "recorded_at_us", "cycle", "cause")),
        *(f"{name} = x'00'" for name in ("key", "state_digest", "cause")),
        *(f"{name} = ''" for name in ("key", "state_digest")),
        *(f"{name} = {name} || char(10)" for name in ("actor", "payload", "key")),
        *(f"{name} = {name} || ','" for name in ("type", "state_after")),
        "actor = CAST(x'ff' AS TEXT)",
    ],
)
def test_value_that_a_column_does_not_hold_is_not_given(log: EventLog, tmp_path: Path, value: str) -> None:
    for seq in (1, 9, ROWS):
        change = f"UPDATE events SET key = ifnull(key, 'k'), cause = ifnull(cause, 1) WHERE seq = {seq}"
        with closing(
            altered(log, tmp_path / str(seq), change, f"UPDATE events SET {value} WHERE seq = {seq}")
        ) as reader:
            assert read_columns(reader, Seq(1), Seq(ROWS)) is None
            if "ff" not in value:  # the driver cannot read that row at all
                assert columns_of(list(reader.rows())) is None


def test_text_behind_a_nul_is_part_of_a_value(log: EventLog, tmp_path: Path) -> None:
    """C reads a text to its first NUL; SQLite's joining does not."""
    change = "UPDATE events SET actor = actor || char(0) || 'x', hash = hash || char(0) WHERE seq = 9"
    with closing(altered(log, tmp_path / "altered", change)) as reader:
        columns = read_columns(reader, Seq(1), Seq(ROWS))
        assert columns is not None
        assert columns.actors[8].endswith("\0x")
        assert columns == columns_of(list(reader.rows()))
