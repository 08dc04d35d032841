"""Many files at once out of the store, and onto the disk."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from instar.engine.files import flush, open_beneath
from instar.engine.files.flush import sync_each
from instar.engine.files.open_beneath import OPEN_FOLDER
from instar.engine.restoring import writing
from instar.engine.restoring.writing import Writing, write_all
from instar.fsm.errors import BlobCorrupt, BlobMissing
from instar.fsm.words import Digest
from instar.store.tree_nodes import Entry
from tests.engine.workspaces import look
from tests.store.memory_blobs import MemoryBlobs

FILES = 600


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    opened = os.open(tmp_path, OPEN_FOLDER)
    yield opened
    os.close(opened)


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def wanted(blobs: MemoryBlobs, folder: Path, count: int) -> tuple[list[Writing], dict[bytes, object]]:
    """Gives files in a few folders, which are made, and what should stand there afterwards."""
    writings, expected = [], {}
    for number in range(count):
        below = f"p{number // 100}/é" if number % 100 < 50 else ""
        (folder / below).mkdir(parents=True, exist_ok=True)
        content, mode = b"%d" % number * 40, 0o755 if number % 3 else 0o600
        entry = Entry("file", mode, blobs.put(content), len(content))
        writings.append(Writing(below, b"f%d" % number, f"{below}/f{number}", entry))
        expected[os.fsencode(f"{below}/f{number}".lstrip("/"))] = ("file", mode, content)
    entry = Entry("link", 0o777, blobs.put(b"f1"), 2)
    return [*writings, Writing("", b"link", "link", entry)], {**expected, b"link": ("link", 0o777, b"f1")}


@pytest.mark.parametrize("count", [3, FILES])
@pytest.mark.parametrize("kernel", ["openat2", "without"])
def test_files_are_written_to_their_folders(
    tmp_path: Path, fd: int, count: int, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kernel == "without":
        monkeypatch.setattr(open_beneath, "_syscall", None)
    blobs = MemoryBlobs()
    writings, expected = wanted(blobs, tmp_path, count)
    (tmp_path / "link").write_bytes(b"left by a process that died")
    before = open_files()
    write_all(fd, blobs, writings)
    assert look(tmp_path) == expected
    assert open_files() <= before  # what earlier tests left may be closed meanwhile


@pytest.mark.parametrize("count", [3, FILES])
def test_file_that_the_store_lacks_is_an_error_and_nothing_stays_open(tmp_path: Path, fd: int, count: int) -> None:
    blobs = MemoryBlobs()
    writings, _ = wanted(blobs, tmp_path, count)
    del blobs.contents[writings[-2].entry.blob]
    before, threads = open_files(), set(threading.enumerate())
    with pytest.raises(BlobMissing):
        write_all(fd, blobs, writings)
    assert open_files() <= before  # what earlier tests left may be closed meanwhile
    assert set(threading.enumerate()) <= threads


def test_content_of_another_size_is_refused(tmp_path: Path, fd: int) -> None:
    blobs = MemoryBlobs()
    entry = Entry("file", 0o644, blobs.put(b"abc"), 4)
    with pytest.raises(BlobCorrupt, match="p/x"):
        write_all(fd, blobs, [Writing("", b"x", "p/x", entry)])
    assert look(tmp_path) == {}


def test_batches_hold_little_and_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "_BATCH_BYTES", 100)
    sizes = [10, 95, 1000, 3, 3, *[1] * 200]
    writings = [Writing("", b"%d" % n, "", Entry("file", 0o644, Digest(""), size)) for n, size in enumerate(sizes)]
    batches = list(writing._batches(writings))
    assert [one for batch in batches for one in batch] == writings
    assert all(len(batch) == 1 or sum(one.entry.size for one in batch) <= 100 for batch in batches)
    assert max(map(len, batches)) == writing._BATCH_FILES


@pytest.mark.parametrize("quick_s", [0.0, 1e9])
def test_each_is_synced_once_and_an_error_of_one_is_raised(monkeypatch: pytest.MonkeyPatch, quick_s: float) -> None:
    monkeypatch.setattr(flush, "_QUICK_S", quick_s)
    synced: list[int] = []
    by: set[int] = set()
    threads = set(threading.enumerate())

    def sync(number: int) -> None:
        if number == 77:
            raise OSError(5, "bad sector")
        synced.append(number)
        by.add(threading.get_ident())

    sync_each(range(60), sync)
    assert sorted(synced) == list(range(60))
    assert (by == {threading.get_ident()}) is (quick_s > 0)
    with pytest.raises(OSError, match="bad sector"):
        sync_each(range(60, 100), sync)
    assert set(threading.enumerate()) <= threads


def test_folder_is_opened_at_once_only_if_no_link_is_on_the_way(tmp_path: Path, fd: int) -> None:
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    (tmp_path / "a" / "link").symlink_to("b")
    (tmp_path / "a" / "file").write_bytes(b"")
    opened = open_beneath.open_beneath(fd, b"a/b/c")
    if opened is None:
        pytest.skip("this kernel has no openat2")
    assert os.path.samestat(os.fstat(opened), (tmp_path / "a" / "b" / "c").stat())
    assert not os.get_inheritable(opened)
    os.close(opened)
    for path in (b"a/link", b"a/link/c", b"a/file", b"a/none", b"../" + os.fsencode(tmp_path.name), b"/tmp"):
        assert open_beneath.open_beneath(fd, path) is None, path
    assert open_beneath._syscall is not None
