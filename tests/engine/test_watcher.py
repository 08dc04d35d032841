"""Watching: hints make it soon, rescans make it certain, and our own writes are no news."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from instar.engine.initialize import initialize
from instar.engine.replay import replay
from instar.engine.restoring.rollback import roll_back
from instar.engine.runtime import Runtime
from instar.engine.settings import Settings, load_settings
from instar.engine.watcher import Watcher, rescan
from instar.fsm.errors import ConfigError
from instar.fsm.events import ChangeObserved, InputSkipped
from instar.fsm.policy import CyclePolicy, Policy
from tests.engine.agents import agent_folder, code_only, contents


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return code_only(tmp_path / "agent")


def observed(runtime: Runtime) -> list[tuple[str, str, bool]]:
    events = (record.event for record in runtime.reader.read(types=[ChangeObserved]))
    return [(e.change, e.path, e.monitored) for e in events if isinstance(e, ChangeObserved)]


def test_rescan_records_each_change_once(runtime: Runtime) -> None:
    root = runtime.workspace.root
    (root / "heuristics.py").write_text("x = 1\n")
    (root / "deep" / "er").mkdir(parents=True)
    (root / "deep" / "er" / "fsm.py").write_text("y = 1\n")
    (root / "notes.txt").unlink()
    rescan(runtime)
    rescan(runtime)
    assert observed(runtime) == [
        ("added", "deep/er/fsm.py", True),
        ("modified", "heuristics.py", True),
        ("deleted", "notes.txt", False),
    ]


def test_change_of_same_size_with_its_time_put_back_is_found(runtime: Runtime) -> None:
    path = runtime.workspace.root / "notes.txt"
    status = path.stat()
    path.write_text("FIRST line\n")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    rescan(runtime)
    assert observed(runtime) == [("modified", "notes.txt", False)]


def test_own_files_are_no_change(runtime: Runtime) -> None:
    for path in (runtime.workspace.retrain_trigger, runtime.workspace.dataset, runtime.workspace.audit_log):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    rescan(runtime)
    assert observed(runtime) == []


def test_change_seen_before_starts_no_cycle(runtime: Runtime) -> None:
    path = runtime.workspace.root / "notes.txt"
    for text in ("second\n", "first line\n", "second\n"):
        path.write_text(text)
        rescan(runtime)
    events = [r.event for r in runtime.reader.read(types=[ChangeObserved])]
    assert [e.seen for e in events if isinstance(e, ChangeObserved)] == [False, False, True]
    assert runtime.state.waiting_count == 2


def test_unmanaged_file_is_recorded_once_with_its_reason(runtime: Runtime) -> None:
    os.mkfifo(runtime.workspace.root / "pipe")
    rescan(runtime)
    (runtime.workspace.root / "notes.txt").write_text("more\n")
    rescan(runtime)
    skipped = [r.event for r in runtime.reader.read(types=[InputSkipped])]
    assert [e.subject for e in skipped if isinstance(e, InputSkipped)] == ["pipe"]


def test_hint_makes_a_rescan_due(tmp_path: Path) -> None:
    code_only(tmp_path / "agent").close()
    settings = load_settings(tmp_path / "agent", watch__rescan_s="600", watch__debounce_ms="50")
    runtime = Runtime(tmp_path / "agent", actor="test", settings=settings)
    wake = threading.Event()
    watcher = Watcher(runtime, wake)
    watcher.start()
    try:
        watcher.rescan()
        assert watcher.due_in() > 60
        (runtime.workspace.root / "notes.txt").write_text("changed\n")
        assert wake.wait(60)
        deadline = time.monotonic() + 60
        while watcher.due_in() > 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        watcher.rescan()
        assert observed(runtime) == [("modified", "notes.txt", False)]
    finally:
        watcher.stop()


def test_reading_files_is_no_hint(tmp_path: Path) -> None:
    runtime = code_only(tmp_path / "agent")
    wake = threading.Event()
    watcher = Watcher(runtime, wake)
    watcher.start()
    watch = watcher._watch
    assert watch is not None
    try:
        for _ in range(3):
            watcher.rescan()
            (runtime.workspace.root / "notes.txt").read_bytes()
        assert watch.prove(timeout_s=60)  # whatever was told of this was told by now
        assert not wake.is_set()
        (runtime.workspace.root / "notes.txt").write_bytes(b"changed\n")
        assert watch.prove(timeout_s=60)
        assert wake.is_set()
    finally:
        watcher.stop()


def test_failed_store_is_an_error_and_never_an_old_tree(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = runtime.state.tree
    (runtime.workspace.root / "notes.txt").write_text("changed\n")

    def full(_hashed: list[tuple[str, bytes]]) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runtime.blobs, "prepared", full)
    with pytest.raises(OSError, match="No space left"):
        rescan(runtime)
    assert runtime.state.tree == tree


def test_rules_are_recorded_before_a_tree_that_was_captured_under_others(tmp_path: Path) -> None:
    first = code_only(tmp_path / "agent")
    assert "*.pyc" in first.state.policy.capture.ignore
    assert ".env" in first.state.policy.capture.secrets
    assert first.state.policy.capture.cap_bytes == first.settings.watch.cap_bytes
    first.close()
    settings = load_settings(tmp_path / "agent", watch__ignore=["*.log"])
    runtime = Runtime(tmp_path / "agent", actor="test", settings=settings)
    (runtime.workspace.root / "a.log").write_text("left out\n")
    (runtime.workspace.root / "notes.txt").write_text("changed\n")
    kinds = [type(record.event).__name__ for record in rescan(runtime)]
    assert kinds == ["PolicyChanged", "ChangeObserved"]
    assert runtime.state.policy.capture.ignore[-7] == "*.log"
    assert runtime.state.policy == runtime.settings.policy


def test_rollback_spares_what_the_rules_of_then_left_out(tmp_path: Path) -> None:
    code_only(tmp_path / "agent").close()
    path = tmp_path / "agent" / "a.log"
    path.write_text("first\n")
    ignoring = load_settings(tmp_path / "agent", watch__ignore=["*.log"])
    runtime = Runtime(tmp_path / "agent", actor="test", settings=ignoring)
    (tmp_path / "agent" / "notes.txt").write_text("changed\n")
    rescan(runtime)
    target = runtime.reader.head()
    runtime.close()
    runtime = Runtime(tmp_path / "agent", actor="test")
    rescan(runtime)
    assert ("added", "a.log", False) in observed(runtime)
    (tmp_path / "agent" / "notes.txt").write_text("changed again\n")
    roll_back(runtime, target)
    assert path.read_text() == "first\n"
    assert (tmp_path / "agent" / "notes.txt").read_text() == "changed\n"


def test_rules_cannot_be_set_as_policy(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"watch\.ignore"):
        load_settings(tmp_path, policy__capture__cap_bytes="1")


def test_change_that_the_window_drops_within_one_scan_is_new_again(tmp_path: Path) -> None:
    settings = Settings(policy=Policy(cycle=CyclePolicy(judged_max=3)))
    root = agent_folder(tmp_path / "agent")
    initialize(root, settings=settings, with_model=False)
    runtime = Runtime(root, actor="test", settings=settings)
    for text in ("one", "two", "one"):
        (root / "z.py").write_text(text)
        rescan(runtime)
    for name in ("a.py", "b.py", "c.py", "d.py"):
        (root / name).write_text(name)
    (root / "z.py").write_text("two")
    assert len(rescan(runtime)) == 5
    roll_back(runtime, 1)
    assert contents(root).keys() == {"heuristics.py", "notes.txt"}
    assert replay(runtime.reader).state == runtime.state
    runtime.close()
