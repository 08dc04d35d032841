"""A disk that is full, read-only or failing: a clear error, nothing lost, and all is well once the fault is gone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from instar.engine.bundles.anchor import check_anchor, make_anchor
from instar.engine.replay import replay
from instar.fsm.errors import LogCorrupt, LogLost
from instar.store.log import EventLog, create_log
from instar.store.reader import LogReader
from tests.crash import faulty_disk, syscalls
from tests.crash.flips import settle
from tests.engine.workspaces import public_folder
from tests.store.logs import feedback, fresh_log

mounts = pytest.mark.skipif(bool(faulty_disk.why_no_mount()), reason=faulty_disk.why_no_mount())
traces = pytest.mark.skipif(bool(syscalls.why_not()), reason=syscalls.why_not())

FULL = """
filler = disk / "filler"
filler.write_bytes(bytes(300_000))
create_log(path)
log = EventLog(path)
log.append(INIT)
done = {}
with pytest.raises(LogUnavailable, match="disk is full.*Nothing was recorded; make room"):
    while True:
        number = len(done)
        done[number] = log.append(feedback(number, input="x" * 5000), key=f"n{number}")
with pytest.raises(LogUnavailable, match="No space left"):
    log.blobs.put(os.urandom(FILE_BYTES_MIN))
assert not [found for found in disk.rglob("*") if found.is_file() and found.parent.parent.name == "blobs"]
with pytest.raises(LogUnavailable, match="Make room"):
    create_log(disk / "other" / "log.db")
with closing(LogReader(path)) as reader:
    assert reader.head() == 1 + len(done)
with closing(EventLog(path)) as other:
    assert other.state.head == 1 + len(done)
filler.unlink()
again = log.append(feedback(len(done)), key=f"n{len(done)}")
assert again.seq == 2 + len(done)
assert log.append(feedback(0), key="n0") == done[0]
log.close()
create_log(disk / "other" / "log.db")
"""

READ_ONLY = """
with closing(LogReader(path)) as reader:
    assert reader.head() == 3
for attempt in (lambda: EventLog(path), lambda: create_log(disk / "other" / "log.db")):
    with pytest.raises(LogUnavailable, match="[Rr]ead-only"):
        attempt()
"""

READABLE = """
with closing(LogReader(path)) as reader:
    assert reader.head() == 3
with pytest.raises(LogUnavailable, match="ermission|readonly"):
    EventLog(path).append(feedback(1))
"""

CLOSED = """
for attempt in (lambda: LogReader(path), lambda: EventLog(path), lambda: create_log(path)):
    with pytest.raises(LogUnavailable, match="ermission|unable to open"):
        attempt()
"""

UNSYNCED = """
log = EventLog(path)
log.append(feedback(3), key="first")
with pytest.raises(LogUnavailable, match="Nothing was recorded"):
    log.append(feedback(4), key="second")
assert log.reader.head() == 4
second = log.append(feedback(4), key="second")
assert second.seq == 5
assert log.append(feedback(4), key="second") == second
log.close()
"""


@pytest.fixture
def closed_log() -> Iterator[Path]:
    """Three events, all in the database, in a folder that everybody can reach."""
    with public_folder() as folder:
        (folder / "disk").mkdir()
        log = fresh_log(folder / "disk")
        for number in range(2):
            log.append(feedback(number))
        log.close()
        settle(log.path)
        yield log.path


def appends_again(path: Path) -> None:
    log = EventLog(path)
    head = log.reader.head()
    assert log.append(feedback(99)).seq == head + 1
    assert replay(log.reader).events == head + 1
    log.close()


@mounts
def test_full_disk_records_nothing_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    faulty_disk.on_small_disk(tmp_path / "disk", FULL, kilobytes=900)


@mounts
def test_read_only_disk_can_be_read_and_says_that_it_cannot_be_written(closed_log: Path) -> None:
    faulty_disk.on_read_only_disk(closed_log.parent, READ_ONLY)
    appends_again(closed_log)


def test_closed_folder_is_said(closed_log: Path) -> None:
    closed_log.parent.chmod(0o700)
    faulty_disk.as_nobody(closed_log.parent, CLOSED)
    appends_again(closed_log)


@pytest.mark.parametrize("folder", [0o777, 0o555], ids=["writable folder", "closed folder"])
def test_file_that_may_be_read_alone_is_read_alone(closed_log: Path, folder: int) -> None:
    for place in closed_log.parent.iterdir():
        place.chmod(0o444)
    closed_log.parent.chmod(folder)
    faulty_disk.as_nobody(closed_log.parent, READABLE)
    closed_log.parent.chmod(0o777)
    for place in closed_log.parent.iterdir():
        place.chmod(0o600)
    appends_again(closed_log)


def test_file_that_may_not_be_read_is_said(closed_log: Path) -> None:
    closed_log.chmod(0o600)
    faulty_disk.as_nobody(closed_log.parent, CLOSED)
    appends_again(closed_log)


@traces
def test_sync_that_fails_is_an_append_that_failed(closed_log: Path) -> None:
    """The first sync is of the write-ahead log's head, and one of its folder; each append has one."""
    faulty_disk.with_failing_sync(closed_log.parent, UNSYNCED, when=4)
    with closing(LogReader(closed_log)) as reader:
        assert replay(reader).events == 5


def test_log_that_was_closed_needs_no_write_ahead_log(tmp_path: Path) -> None:
    log = fresh_log(tmp_path)
    for number in range(10):
        log.append(feedback(number))
    log.close()
    for ending in ("-wal", "-shm"):
        log.path.with_name(log.path.name + ending).unlink(missing_ok=True)
    with closing(LogReader(log.path)) as reader:
        assert replay(reader).events == 11


@pytest.mark.parametrize("lose", [Path.unlink, lambda wal: wal.write_bytes(b"\xff" * 9000)], ids=["lost", "garbage"])
def test_lost_write_ahead_log_leaves_a_whole_log_and_an_anchor_sees_it(
    closed_log: Path, lose: Callable[[Path], object]
) -> None:
    log = EventLog(closed_log)
    log.append(feedback(3))
    anchor = make_anchor(log.reader)
    content = closed_log.read_bytes()  # as after a crash: nothing was copied into the database
    wal = closed_log.with_name("log.db-wal")
    kept = wal.read_bytes()
    log.close()
    closed_log.write_bytes(content)
    wal.write_bytes(kept)
    closed_log.with_name("log.db-shm").unlink(missing_ok=True)
    lose(wal)
    with closing(LogReader(closed_log)) as reader:
        assert replay(reader).events == 3
        with pytest.raises(LogCorrupt, match="cut off"):
            check_anchor(reader, anchor)
    appends_again(closed_log)


def test_lost_shared_memory_file_is_rebuilt(closed_log: Path) -> None:
    log = EventLog(closed_log)
    log.append(feedback(3))
    kept = {ending: closed_log.with_name(f"log.db{ending}").read_bytes() for ending in ("", "-wal")}
    log.close()
    for ending, content in kept.items():
        closed_log.with_name(f"log.db{ending}").write_bytes(content)
    closed_log.with_name("log.db-shm").unlink(missing_ok=True)
    with closing(LogReader(closed_log)) as reader:
        assert replay(reader).events == 4
    appends_again(closed_log)


def test_lost_database_with_events_in_the_write_ahead_log_is_never_begun_anew(closed_log: Path) -> None:
    log = EventLog(closed_log)
    log.append(feedback(3))
    kept = {ending: closed_log.with_name(f"log.db{ending}").read_bytes() for ending in ("", "-wal")}
    log.close()
    closed_log.unlink()
    closed_log.with_name("log.db-wal").write_bytes(kept["-wal"])
    with pytest.raises(LogLost, match=r"Keep log\.db-wal: it holds the latest events"):
        create_log(closed_log)
    for ending, content in kept.items():
        closed_log.with_name(f"log.db{ending}").write_bytes(content)
    closed_log.with_name("log.db-shm").unlink(missing_ok=True)
    create_log(closed_log)
    with closing(LogReader(closed_log)) as reader:
        assert replay(reader).events == 4
