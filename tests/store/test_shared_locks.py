"""A program that has a log open may read the log's files itself, as one does that copies its own folder."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from instar.store.log import EventLog
from instar.store.reader import LogReader
from tests.store.logs import feedback, fresh_log

OTHER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
print(connection.execute("SELECT count(*) FROM events").fetchone()[0])
connection.close()
"""


def seen_by_another(path: Path) -> int:
    """Counts the events as another process does, which opens the log, and closes it, as any that writes to it."""
    done = subprocess.run([sys.executable, "-S", "-c", OTHER, path], stdout=subprocess.PIPE, check=True)
    return int(done.stdout)


def read_whole(folder: Path) -> None:
    """Does what a backup does; the kernel takes all locks of this process from each file."""
    for path in folder.iterdir():
        if path.is_file():
            path.read_bytes()


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    log = fresh_log(tmp_path)
    log.append(feedback(1))
    return log


def test_write_ahead_log_is_not_taken_from_a_program_that_read_it(log: EventLog) -> None:
    before = seen_by_another(log.path)
    read_whole(log.path.parent)
    assert seen_by_another(log.path) == before
    log.append(feedback(2))
    assert seen_by_another(log.path) == before + 1
    log.close()


def test_index_is_not_cut_under_a_program_that_read_it(log: EventLog) -> None:
    """Else whoever reads the log at that moment is killed by SIGBUS."""
    index = log.path.with_name("log.db-shm")
    os.truncate(index, 1 << 16)  # more than it needs: whoever takes itself for the first cuts that off
    read_whole(log.path.parent)
    seen_by_another(log.path)
    assert index.stat().st_size == 1 << 16
    log.close()


def test_log_that_another_handle_or_a_forked_process_closes_stays_shared(log: EventLog) -> None:
    wal = log.path.with_name("log.db-wal")
    EventLog(log.path).close()
    child = os.fork()
    if child == 0:
        EventLog(log.path).close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    read_whole(log.path.parent)
    seen_by_another(log.path)
    assert wal.exists()
    log.close()
    assert not wal.exists()


def test_log_of_another_mode_is_brought_into_the_write_ahead_one_though_this_process_reads_it(log: EventLog) -> None:
    """As one that was restored from a copy, or was written by an older version."""
    log.close()
    connection = sqlite3.connect(log.path)
    connection.execute("PRAGMA journal_mode=DELETE")
    connection.close()
    readers = [LogReader(log.path), LogReader(log.path)]
    again = EventLog(log.path)
    assert again.append(feedback(2)).seq == readers[0].head()
    read_whole(log.path.parent)
    seen_by_another(log.path)
    assert log.path.with_name("log.db-wal").exists()
    for reader in readers:
        reader.close()
    again.close()
