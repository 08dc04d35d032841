"""The kernel tells of every change, or it is known that it did not."""

from __future__ import annotations

import mmap
import os
import random
import shutil
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from instar.engine.files.mounts import file_system, tells_changes
from instar.engine.runtime import Runtime
from instar.engine.settings import load_settings
from instar.engine.trees import tree_watch
from instar.engine.trees.capture import Capture
from instar.engine.trees.ignore import Ignore
from instar.engine.trees.stat_cache import StatCache
from instar.engine.trees.tree_watch import TreeWatch
from instar.engine.watcher import Watcher
from instar.fsm.events import ChangeObserved
from tests.engine.agents import code_only
from tests.store.memory_blobs import MemoryBlobs

QUEUE_MAX = Path("/proc/sys/fs/inotify/max_queued_events")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
def watch(root: Path, tmp_path: Path) -> Iterator[TreeWatch]:
    watch = TreeWatch(root, tmp_path / "cookies", lambda: None)
    watch.cover("")
    yield watch
    watch.close()


def overflow(folder: Path) -> None:
    """Has the kernel tell twice what its queue holds: whatever a reader took out of it before, enough is left.

    Two files take turns, since events that are alike and follow each other are told once.
    """
    files = [folder / "one.pyc", folder / "other.pyc"]
    for file in files:
        file.touch()
    for number in range(2 * int(QUEUE_MAX.read_text())):
        files[number % 2].chmod(0o600)


def told(watch: TreeWatch) -> dict[str, bool]:
    assert watch.prove(timeout_s=60)
    dirty = watch.take()
    assert dirty.lost == ""
    return dict(dirty.paths)


def test_cookie_proves_that_earlier_changes_were_told(root: Path, watch: TreeWatch) -> None:
    for number in range(200):
        (root / f"{number}").write_bytes(b"x")
    assert told(watch) == {f"{number}": False for number in range(200)}
    assert told(watch) == {}


def test_each_kind_of_change_is_told_and_reading_is_none(root: Path, watch: TreeWatch) -> None:
    (root / "a").write_bytes(b"1")
    (root / "b").write_bytes(b"1")
    (root / "folder").mkdir()
    told(watch)
    (root / "a").read_bytes()
    list(root.iterdir())
    assert told(watch) == {}
    (root / "a").chmod(0o600)
    assert told(watch) == {"a": False}
    os.utime(root / "a", ns=(1, 1))
    assert told(watch) == {"a": False}
    (root / "a").rename(root / "c")
    assert told(watch) == {"a": False, "c": False}
    (root / "b").unlink()
    assert told(watch) == {"b": False}
    (root / "l").symlink_to("nowhere")
    assert told(watch) == {"l": False}
    (root / "folder").chmod(0o700)
    assert told(watch) == {"folder": False}
    (root / "folder").rmdir()
    (root / "other").mkdir()
    assert told(watch) == {"folder": True, "other": True}


def test_no_cookie_in_time_proves_nothing(root: Path, watch: TreeWatch) -> None:
    with watch._lock:
        watch._cookie_wd = watch._cookie_wd.__class__(-7)  # so that its event is not understood as one
    assert not watch.prove(timeout_s=0.2)


def test_overflow_of_the_kernels_queue_is_found(root: Path, tmp_path: Path) -> None:
    watch = TreeWatch(root, tmp_path / "cookies", lambda: None)
    try:
        watch._lock.acquire()  # holds the reader
        try:
            overflow(root)
        finally:
            watch._lock.release()
        deadline = time.monotonic() + 60
        while not watch.take().lost and time.monotonic() < deadline:
            time.sleep(0.01)
        assert "overflow" in watch.take().lost
    finally:
        watch.close()


def test_replaced_root_is_found(root: Path, watch: TreeWatch) -> None:
    root.rename(root.with_name("moved"))
    root.mkdir()
    watch.prove()
    assert "replaced" in watch.take().lost


# ---- with the capture ------------------------------------------------------------------------------------------------


def _scramble(chance: random.Random, root: Path, outside: Path) -> None:
    """Does something to the tree, as a shell would."""
    folders = [path for path in root.rglob("*") if path.is_dir() and not path.is_symlink()] + [root]
    files = [path for path in root.rglob("*") if not path.is_dir() or path.is_symlink()]
    here, name = chance.choice(folders), chance.choice("abcdef")
    place = here / name
    match chance.randrange(9):
        case 0 | 1 | 2:
            if not place.is_dir():
                place.write_bytes(chance.randbytes(8))
        case 3:
            (here / chance.choice("xyz") / chance.choice("xyz")).mkdir(parents=True, exist_ok=True)
        case 4:
            if here != root:
                shutil.rmtree(here)
        case 5:
            target = chance.choice(folders) / chance.choice("uvw")
            if here != root and not target.exists() and not target.is_relative_to(here):
                here.rename(target)
        case 6:
            if files:
                chance.choice(files).unlink()
        case 7:
            (here / ".gitignore").write_text(chance.choice(["a\n", "b\nx/\n", "", "*\n!.gitignore\n"]))
        case _:
            shutil.rmtree(outside, ignore_errors=True)
            (outside / "p" / "q").mkdir(parents=True)
            (outside / "p" / "a").write_bytes(chance.randbytes(8))
            (outside / "p" / "q" / "b").write_bytes(chance.randbytes(8))
            if not (here / "moved-in").exists():
                outside.rename(here / "moved-in")


@pytest.mark.parametrize("seed", range(4))
def test_told_changes_lead_to_the_tree_that_a_scan_of_everything_finds(
    root: Path, watch: TreeWatch, tmp_path: Path, seed: int
) -> None:
    chance, blobs = random.Random(seed), MemoryBlobs()
    capture = Capture(root, blobs, Ignore(), cache=StatCache(tmp_path / "cache"))
    capture.cover = watch.cover
    capture.look()
    for _ in range(40):
        for _ in range(chance.randrange(1, 6)):
            _scramble(chance, root, tmp_path / "outside")
        digest = capture.look_at(told(watch))
        other = Capture(root, blobs, Ignore(), cache=StatCache(tmp_path / "none"))
        assert digest == other.look(full=True)
        assert capture.tree() == other.tree()


# ---- with the log ----------------------------------------------------------------------------------------------------


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[tuple[Runtime, Watcher]]:
    code_only(tmp_path / "agent").close()
    settings = load_settings(tmp_path / "agent", watch__rescan_s="600", watch__debounce_ms="20")
    runtime = Runtime(tmp_path / "agent", actor="test", settings=settings)
    watcher = Watcher(runtime, threading.Event())
    watcher.start()
    watcher.look()
    yield runtime, watcher
    watcher.stop()
    runtime.close()


def paths(runtime: Runtime) -> list[str]:
    found = (record.event for record in runtime.reader.read(types=[ChangeObserved]))
    return [event.path for event in found if isinstance(event, ChangeObserved)]


def test_look_takes_up_what_was_told_and_lists_nothing(
    watched: tuple[Runtime, Watcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime, watcher = watched
    assert watcher._watch is not None
    monkeypatch.setattr(watcher._watch, "prove", partial(watcher._watch.prove, timeout_s=60))
    monkeypatch.setattr(runtime.capture, "look", lambda **_: pytest.fail("everything was looked at"))
    (runtime.workspace.root / "notes.txt").write_text("changed\n")
    (runtime.workspace.root / "new" / "er").mkdir(parents=True)
    (runtime.workspace.root / "new" / "er" / "x").write_text("x")
    watcher.look()
    assert paths(runtime) == ["new/er/x", "notes.txt"]


def test_overflow_is_answered_by_a_look_at_everything(watched: tuple[Runtime, Watcher]) -> None:
    runtime, watcher = watched
    assert watcher._watch is not None
    notes = runtime.workspace.root / "notes.txt"
    before = watcher._watch
    watcher._watch._lock.acquire()
    try:
        overflow(runtime.workspace.root)
        notes.write_text("changed while nobody listened\n")
    finally:
        watcher._watch._lock.release()
    watcher.look()
    assert paths(runtime) == ["notes.txt"]
    assert watcher._watch is not before
    notes.write_text("and once more\n")
    watcher.look()
    assert paths(runtime) == ["notes.txt", "notes.txt"]


def test_dead_reader_is_found_and_started_anew(watched: tuple[Runtime, Watcher]) -> None:
    runtime, watcher = watched
    assert watcher._watch is not None
    watcher._watch._reader.stop()
    watcher._watch._reader.join()
    (runtime.workspace.root / "notes.txt").write_text("changed\n")
    watcher.look()
    assert paths(runtime) == ["notes.txt"]
    assert watcher._watch.is_alive


def test_write_through_a_memory_map_is_found_by_the_rescan(watched: tuple[Runtime, Watcher]) -> None:
    runtime, watcher = watched
    path = runtime.workspace.root / "notes.txt"
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        mapped[0:1] = b"F"
        mapped.flush()
    watcher.rescan()
    assert paths(runtime) == ["notes.txt"]


def test_system_without_watches_is_polled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    runtime = code_only(tmp_path / "agent")

    def refused(*_: object) -> None:
        raise OSError(28, "inotify watch limit reached")

    monkeypatch.setattr(tree_watch.TreeWatch, "_add", refused)
    watcher = Watcher(runtime, threading.Event())
    watcher.start()
    assert not watcher.is_told
    assert "inotify watch limit reached" in caplog.text
    (runtime.workspace.root / "notes.txt").write_text("changed\n")
    watcher.look()
    assert paths(runtime) == ["notes.txt"]
    assert watcher.due_in() <= runtime.settings.watch.poll_s


def test_watch_limit_reached_later_is_answered_by_polling(
    watched: tuple[Runtime, Watcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime, watcher = watched
    assert watcher._watch is not None
    real = watcher._watch._add

    def refused(folder: str) -> object:
        if folder == "many/":
            raise OSError(28, "inotify watch limit reached")
        return real(folder)

    monkeypatch.setattr(watcher._watch, "_add", refused)
    (runtime.workspace.root / "many").mkdir()
    (runtime.workspace.root / "many" / "x").write_text("x")
    watcher.look()
    assert paths(runtime) == ["many/x"]
    (runtime.workspace.root / "many" / "y").write_text("y")
    watcher.look()
    assert paths(runtime) == ["many/x", "many/y"]
    assert not watcher.is_told


def test_polling_can_be_asked_for(tmp_path: Path) -> None:
    code_only(tmp_path / "agent").close()
    settings = load_settings(tmp_path / "agent", watch__mode="polling", watch__poll_s="0.1")
    watcher = Watcher(Runtime(tmp_path / "agent", actor="test", settings=settings), threading.Event())
    watcher.start()
    assert not watcher.is_told


def test_file_system_is_named_and_remote_ones_are_polled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert file_system(Path("/proc")) == "proc"
    assert tells_changes(tmp_path)
    for kind in ("nfs4", "9p", "fuse.sshfs", "cifs"):
        table = tmp_path / "mountinfo"
        table.write_text(f"1 0 0:1 / / rw - ext4 /dev/a rw\n2 1 0:2 / {tmp_path} rw shared:1 - {kind} x rw\n")
        monkeypatch.setattr("instar.engine.files.mounts._TABLE", table)
        assert file_system(tmp_path / "below") == kind
        assert not tells_changes(tmp_path / "below")
