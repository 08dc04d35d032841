"""Every single byte of a log's files that changes is found, or changes nothing that can be read."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from instar.store.log import EventLog
from instar.store.schema import events
from tests.crash.flips import Count, Flipped, Outcome, flip_all, small_log
from tests.store.logs import feedback

PAGE = 4096


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_log(tmp_path_factory.mktemp("flips"))


def blob_file(log: Path) -> Path:
    (found,) = [path for path in log.parent.glob("blobs/??/*") if path.is_file()]
    return found.relative_to(log.parent)


def unsettled(folder: Path) -> Path:
    """A log whose last events are in the write-ahead log alone."""
    folder.mkdir()
    path = small_log(folder)
    log = EventLog(path)
    for number in range(3):
        log.append(feedback(number, input="in the write-ahead log"))
    kept = {ending: path.with_name(path.name + ending).read_bytes() for ending in ("", "-wal")}
    log.close()
    for ending, content in kept.items():
        path.with_name(path.name + ending).write_bytes(content)
    path.with_name(f"{path.name}-shm").unlink(missing_ok=True)
    return path


def in_processes(log: Path, folder: Path, file: Path, *, anchored: bool = False) -> Count:
    """Flips every byte of a file, shared among processes."""
    size, workers = (log.parent / file).stat().st_size, os.cpu_count() or 1
    whole = Count()
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        parts = [
            pool.submit(
                flip_all, log, folder / str(part), file, range(part, size, workers), anchored=anchored, both=False
            )
            for part in range(workers)
        ]
        for part in parts:
            whole.join(part.result())
    return whole


def test_flips_in_the_database_are_found_or_harmless(log: Path, tmp_path: Path) -> None:
    count = flip_all(log, tmp_path / "copy", Path(log.name), range(3, log.stat().st_size, 397))
    assert not count.missed, count.missed
    assert min(count.outcomes[Outcome.FOUND], count.outcomes[Outcome.HARMLESS]) > 20


def test_flips_in_a_blob_file_are_found_or_harmless(log: Path, tmp_path: Path) -> None:
    file = blob_file(log)
    count = flip_all(log, tmp_path / "copy", file, range(0, (log.parent / file).stat().st_size, 5))
    assert not count.missed, count.missed
    assert count.outcomes[Outcome.FOUND] > 20


def test_flips_in_the_write_ahead_log_are_found_with_an_anchor(tmp_path: Path) -> None:
    path = unsettled(tmp_path / "source")
    wal = Path(f"{path.name}-wal")
    size = (path.parent / wal).stat().st_size
    count = flip_all(path, tmp_path / "copy", wal, range(0, size, size // 40), anchored=True)
    assert not count.missed, count.missed
    assert count.outcomes[Outcome.FOUND] > 20


def test_file_that_was_cut_off_is_found(log: Path, tmp_path: Path) -> None:
    flipped = Flipped(log, tmp_path / "copy")
    content = log.read_bytes()
    for end in range(0, len(content), PAGE):
        assert flipped.put(flipped.path, content[:end]) is Outcome.FOUND, f"cut off at byte {end}"
    blob = blob_file(log)
    packed = (log.parent / blob).read_bytes()
    for end in range(len(packed)):
        assert flipped.put(flipped.path.parent / blob, packed[:end]) is Outcome.FOUND, f"blob cut off at byte {end}"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET {all} FROM (SELECT * FROM events) other WHERE events.seq IN (3, 4) "
        "AND other.seq = 7 - events.seq",
        "DELETE FROM events WHERE seq = (SELECT max(seq) - 1 FROM events)",
        "UPDATE state_snapshots SET (digest, state) = (SELECT digest, state FROM state_snapshots WHERE seq = 4)",
        "UPDATE state_snapshots SET seq = seq + 1000",
        "UPDATE blobs SET content = x'00'",
        "UPDATE blobs SET size = size + 1",
        "UPDATE state_snapshots SET state = replace(state, 'Idle', 'Training')",
        "UPDATE cursors SET hash = (SELECT hash FROM events WHERE seq = 4)",
        "UPDATE cursors SET seq = seq + 1000",
        "UPDATE alembic_version SET version_num = '0000'",
        "CREATE TABLE other (x)",
        "CREATE TRIGGER other AFTER INSERT ON events BEGIN SELECT 1; END",
        "PRAGMA application_id = 7",
    ],
)
def test_rows_that_were_changed_are_found(log: Path, tmp_path: Path, statement: str) -> None:
    flipped = Flipped(log, tmp_path / "copy")
    edited(flipped.path, statement)
    assert flipped.verify()


def test_events_that_were_cut_off_are_found_with_an_anchor(log: Path, tmp_path: Path) -> None:
    """A chain alone cannot see that its tail is gone."""
    flipped = Flipped(log, tmp_path / "copy", anchored=True)
    edited(flipped.path, "DELETE FROM events WHERE seq = (SELECT max(seq) FROM events); DELETE FROM state_snapshots")
    assert any("cut off" in problem for problem in flipped.verify())


def edited(path: Path, statement: str) -> None:
    """Edits a log as somebody who can write its file could: the triggers are off meanwhile."""
    columns = [column.name for column in events.columns if column.name not in ("seq", "key")]
    with closing(sqlite3.connect(path)) as connection:
        triggers = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        connection.executescript(statement.format(all=", ".join(f"{name} = other.{name}" for name in columns)))
        for _, sql in triggers:
            connection.execute(sql)
        connection.commit()


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_every_byte_of_every_file_is_flipped(log: Path, tmp_path: Path) -> None:
    missed: list[str] = []
    for file in (Path(log.name), blob_file(log)):
        count = in_processes(log, tmp_path / file.name, file)
        print(f"\n{file.parts[0]}, {(log.parent / file).stat().st_size} bytes, one random bit or all eight: {count}")
        missed += count.missed
    path = unsettled(tmp_path / "source")
    count = in_processes(path, tmp_path / "wal", Path(f"{path.name}-wal"), anchored=True)
    print(f"the write-ahead log, with an anchor of the head: {count}")
    assert not missed + count.missed, (missed + count.missed)[:50]
