"""Blobs are inserted in an order that leaves little of SQLite's pages empty."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateTable

from instar.fsm.words import digest_of
from instar.store.page_fill import filling
from instar.store.ports import Row
from instar.store.schema import blobs
from tests.store.logs import feedback, fresh_log


def sample(count: int = 3000) -> list[Row]:
    """Sizes as those of compressed source files: most under a page, a few of many pages."""
    chance = random.Random(7)
    sizes = [min(300_000, int(chance.lognormvariate(7.9, 1.2))) for _ in range(count)]
    return [(digest_of(b"%d" % number), 3 * size, chance.randbytes(size)) for number, size in enumerate(sizes)]


def size_of(rows: list[Row]) -> int:
    """Inserts rows as they come; gives the bytes of the database."""
    with sqlite3.connect(":memory:") as database:
        database.execute(str(CreateTable(blobs).compile(dialect=sqlite.dialect())))
        database.executemany("INSERT INTO blobs VALUES (?, ?, ?)", rows)
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert set(database.execute("SELECT digest, size, content FROM blobs")) == set(rows)
        (count,), (size,) = (database.execute(f"PRAGMA {what}").fetchone() for what in ("page_count", "page_size"))
        return int(count * size)


def test_pages_are_filled() -> None:
    rows = sample()
    needed = sum(64 + len(content) for _, _, content in rows)
    assert size_of(list(filling(rows))) < 1.05 * needed < 1.1 * needed < size_of(rows)


def test_few_rows_keep_their_order() -> None:
    rows = sample(5)
    assert filling(rows) == rows
    assert filling([]) == []


def test_rows_around_the_limits_of_a_page() -> None:
    rows = [(digest_of(b"%d" % size), size, b"x" * size) for size in (*range(3960, 4110), *range(8060, 8200))]
    assert sorted(filling(rows)) == sorted(rows)
    assert size_of(list(filling(rows))) <= size_of(rows)


def test_all_that_an_append_brings_is_there(tmp_path: Path) -> None:
    log = fresh_log(tmp_path)
    contents = [row[2] for row in sample(200)]
    digests = [log.blobs.put(content) for content in contents]
    log.append(feedback(1))
    assert log.blobs.waiting() == {}
    assert [log.blobs.get(digest) for digest in digests] == contents
