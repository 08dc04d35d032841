"""A collection takes what no kept event needs, and nothing else: every kept point comes back byte for byte."""

from __future__ import annotations

import itertools
import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from instar import Engine
from instar.engine.cli.main import main
from instar.engine.doctor import examine
from instar.engine.initialize import initialize
from instar.engine.keeping.gc import collect, plan_collection
from instar.engine.keeping.housekeeping import look, sweep
from instar.engine.keeping.integrity import check
from instar.engine.keeping.leftovers import SAVED_APART, SAVED_MAX, surplus_states
from instar.engine.keeping.needs import Needs
from instar.engine.loop import Loop
from instar.engine.reexecution.reexecute import reexecute
from instar.engine.replay import Level, replay
from instar.engine.restoring.rollback import plan_rollback, roll_back
from instar.engine.runtime import Runtime
from instar.engine.settings import Settings
from instar.engine.snapshot import take_snapshot
from instar.engine.watcher import rescan
from instar.fsm.errors import BlobCollected, BlobMissing, ConfigError, PositionConflict, WorkerBusy
from instar.fsm.events import (
    BlobsCollected,
    ChangeObserved,
    FeedbackReceived,
    MemoryReembedded,
    SignalEmbedded,
    SnapshotTaken,
    Span,
)
from instar.fsm.record import Recorded
from instar.fsm.retention import Retention
from instar.fsm.state import AgentState
from instar.fsm.words import Seq, digest_of
from instar.store.blobs import FILE_BYTES_MIN
from instar.store.lock import FileLock
from instar.store.log import Collect
from instar.store.manifest import Manifest
from instar.store.packing import press
from instar.store.reader import LogReader
from tests.engine.agents import instar
from tests.engine.workspaces import look as everything_below
from tests.store.logs import SERVER, fresh_log

OLD = Retention(days=0)
"""Keeps points alone, however young the rest is."""
BIG = b"".join(b"%d\n" % n for n in range(FILE_BYTES_MIN // 6))


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    root = tmp_path / "agent"
    root.mkdir()
    (root / "a.py").write_bytes(b"x = 0\n")
    (root / "big.txt").write_bytes(BIG)
    initialize(root, with_model=False)
    opened = Runtime(root, actor="test")
    yield opened
    opened.close()


def files_below(root: Path) -> dict[bytes, object]:
    """Says what the agent's own files hold; the engine writes below ``run`` and ``data``."""
    return {path: leaf for path, leaf in everything_below(root).items() if not path.startswith((b"run/", b"data/"))}


def change(runtime: Runtime, number: int, *, name: str | None = None) -> dict[bytes, object]:
    """Changes two files, a small and a large one; gives what stands there."""
    root = runtime.workspace.root
    (root / "a.py").write_bytes(b"x = %d\n" % number * 50)
    (root / "big.txt").write_bytes(BIG + b"%d\n" % number)
    rescan(runtime)
    while Loop(runtime).step():
        pass
    if name:
        take_snapshot(runtime, name)
    return dict(files_below(root))


def test_kept_points_come_back_and_others_say_what_collected_them(runtime: Runtime) -> None:
    first = dict(files_below(runtime.workspace.root))
    change(runtime, 1)
    lost = runtime.reader.head()
    named = change(runtime, 2, name="good")
    change(runtime, 3)
    now = change(runtime, 4)
    record = collect(runtime, OLD)
    assert record is not None
    event = record.event
    assert isinstance(event, BlobsCollected)
    assert event.points == (1, runtime.state.snapshots["good"])
    with pytest.raises(BlobCollected, match=f"collected by event {record.seq}"):
        roll_back(runtime, lost)
    assert files_below(runtime.workspace.root) == now
    roll_back(runtime, "snapshot:good")
    assert files_below(runtime.workspace.root) == named
    roll_back(runtime, 1)
    assert files_below(runtime.workspace.root) == first
    roll_back(runtime, record.seq)
    assert files_below(runtime.workspace.root) == now


def test_young_events_keep_everything(runtime: Runtime) -> None:
    change(runtime, 1)
    change(runtime, 2)
    plan = plan_collection(runtime, Retention(days=1))
    assert (plan.doomed, plan.unreachable, plan.kept_from) == ((), (), 1)
    assert collect(runtime, Retention(days=1)) is None
    assert not list(runtime.reader.read(types=[BlobsCollected]))


def test_plan_names_the_events_that_cannot_be_returned_to(runtime: Runtime) -> None:
    change(runtime, 1)
    gone = runtime.reader.head()
    change(runtime, 2, name="good")
    change(runtime, 3)
    plan = plan_collection(runtime, OLD)
    lost = {seq for span in plan.unreachable for seq in range(span.first, span.last + 1)}
    assert gone in lost
    collect(runtime, OLD)
    for seq in range(1, plan.head + 1):
        try:
            plan_rollback(runtime, seq)
        except BlobCollected:
            assert seq in lost, seq
        else:
            assert seq not in lost, seq


def test_audits_know_what_was_collected(runtime: Runtime, tmp_path: Path) -> None:
    for number in range(4):
        change(runtime, number)
    record = collect(runtime, OLD)
    assert record is not None
    found = check(runtime.reader)
    assert found.problems == []
    assert found.collected > 0
    assert replay(runtime.reader, level=Level.DECISIONS).decisions["collections"] == 1
    verdicts = {one.verdict for one in reexecute(runtime.reader, ["diff"]).findings}
    assert verdicts == {"cannot"}
    why = [one.why for one in reexecute(runtime.reader, ["diff"]).findings]
    assert all(f"was collected by event {record.seq}" in one for one in why)
    root = runtime.workspace.root
    assert main(["export", str(tmp_path / "bundle"), "-C", str(root), "--no-sign"]) in {0, 2}


def test_what_is_named_after_the_plan_is_spared(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """An orphan of the plan is named by an event that another process records just before the collection."""
    wanted, orphan = runtime.blobs.put(BIG * 2), runtime.blobs.put(BIG * 3)
    other = Runtime(runtime.workspace.root, actor="other")
    real = runtime.log.collect

    def late(decide: Collect) -> Recorded | None:
        assert other.blobs.put(BIG * 2) == wanted
        other.log.append(FeedbackReceived(task_type="t", input="i", log=wanted))
        return real(decide)

    monkeypatch.setattr(runtime.log, "collect", late)
    record = collect(runtime, OLD)
    assert record is not None
    assert not runtime.blobs.has(orphan)
    assert runtime.blobs.get(wanted) == BIG * 2
    assert replay(runtime.reader, level=Level.DECISIONS).decisions["collections"] == 1
    assert check(runtime.reader).problems == []
    other.close()


def test_what_waits_is_kept(runtime: Runtime) -> None:
    """A change that no cycle has taken up yet is diffed after the collection."""
    root = runtime.workspace.root
    for number in range(3):
        (root / "a.py").write_bytes(b"x = %d\n" % number)
        rescan(runtime)
    collect(runtime, OLD)
    while Loop(runtime).step():
        pass
    assert runtime.state.failures == 0
    assert runtime.state.waiting_count == 0


def test_blob_that_comes_back_is_stored_again(runtime: Runtime) -> None:
    """A process that knew the old version as stored learns from the log that it is gone."""
    root = runtime.workspace.root
    other = Runtime(root, actor="other")
    seen = change(runtime, 1)
    rescan(other)
    change(runtime, 2)
    collect(runtime, OLD)
    for path, leaf in seen.items():
        (root / os.fsdecode(path)).write_bytes(leaf[2])  # type: ignore[index]
    again = [record for record in rescan(other, full=True) if isinstance(record.event, ChangeObserved)]
    assert len(again) == 2
    assert check(other.reader).problems == []
    seq = other.reader.head()
    change(runtime, 3)
    roll_back(runtime, seq)
    assert files_below(root) == seen
    other.close()


def test_captures_go_on_while_blobs_are_collected(runtime: Runtime) -> None:
    """Contents come and go and come back in one log while another process's worth of collections run over it."""
    root = runtime.workspace.root
    other = Runtime(root, actor="other")
    ended, refused = threading.Event(), 0

    def edit() -> None:
        nonlocal refused
        for number in itertools.count():
            (root / "a.py").write_bytes(b"x = %d\n" % (number % 3) * 50)
            (root / "big.txt").write_bytes(BIG + b"%d\n" % (number % 2))
            try:
                rescan(other, full=True)
            except PositionConflict:
                refused += 1
            if ended.is_set():
                return

    with ThreadPoolExecutor(1) as pool:
        editing = pool.submit(edit)
        try:
            found = 0
            for _ in range(200):  # how often there is something to collect is up to the scheduler
                while Loop(runtime).step():  # else what waits is kept
                    pass
                found += collect(runtime, OLD) is not None
                if found > 3:
                    break
        finally:
            ended.set()
        editing.result(60)
    assert found > 3
    rescan(other, full=True)
    assert check(runtime.reader).problems == []
    now = dict(files_below(root))
    head = other.reader.head()
    change(runtime, 7)
    roll_back(runtime, head)
    assert files_below(root) == now
    other.close()


def test_orphans_and_leftovers_go(runtime: Runtime) -> None:
    home = runtime.workspace.home
    orphan, large = runtime.blobs.put(b"of an effect that crashed"), runtime.blobs.put(BIG * 2)
    change(runtime, 1)
    checkpoint = runtime.workspace.checkpoints / ("e" * 64)
    staging = runtime.workspace.staging / ("f" * 64)
    scratch = runtime.workspace.scratch / "train-5"
    torn = home / "blobs" / "ab" / ".cd.x"
    way = runtime.workspace.ways / checkpoint.name
    for path in (checkpoint / "model.safetensors", staging / "3.part", scratch / "x", torn, way):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"left")
    os.utime(torn, (time.time() - 7200,) * 2)
    found = sweep(runtime, look(runtime, Retention()), compacts=False)
    assert found.collected == 2
    assert not runtime.blobs.has(orphan)
    assert not runtime.blobs.has(large)
    assert [path for path in (checkpoint, staging, scratch, torn, way) if path.exists()] == []
    assert {one.path for one in found.leftovers} >= {checkpoint, scratch, torn, way}  # staging goes before all else
    assert check(runtime.reader).problems == []


def test_staged_bytes_that_the_store_lacks_stay(runtime: Runtime) -> None:
    kept = runtime.workspace.staging / ("f" * 64) / f"0.kept.{'a' * 64}"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"somebody's work")
    sweep(runtime, look(runtime), compacts=False)
    assert kept.read_bytes() == b"somebody's work"


def test_work_of_a_running_worker_stays(runtime: Runtime) -> None:
    large = runtime.blobs.put(BIG * 2)
    lock = FileLock(runtime.workspace.home / "worker.lock")
    lock.acquire()
    assert large not in plan_collection(runtime, OLD).doomed
    lock.release()
    assert large in plan_collection(runtime, OLD).doomed


def test_nothing_goes_while_something_needed_is_lost(runtime: Runtime) -> None:
    change(runtime, 1)
    tree = runtime.state.tree
    assert tree is not None
    runtime.log._journal.checkpoint()
    change(runtime, 2, name="good")
    runtime.close()
    with sqlite3.connect(runtime.workspace.log) as connection:
        connection.execute("DELETE FROM blobs WHERE digest = ?", (tree,))
    connection.close()
    again = Runtime(runtime.workspace.root, actor="test")
    with pytest.raises(BlobMissing):
        plan_collection(again, Retention())
    assert check(again.reader).problems
    again.close()


def test_second_sweep_at_once_is_refused(runtime: Runtime) -> None:
    lock = FileLock(runtime.workspace.home / "gc.lock")
    lock.acquire()
    with pytest.raises(WorkerBusy):
        sweep(runtime, look(runtime))
    lock.release()


def test_vectors_of_kept_spaces_and_texts_of_live_rows_stay(tmp_path: Path) -> None:
    log = fresh_log(tmp_path)
    blobs = log.blobs
    spaces = [blobs.put(msgspec.json.encode(Manifest(format=1, files=()), order="sorted") + b" " * n) for n in (0, 1)]
    names = {name: blobs.put(name.encode()) for name in ("va", "ta", "vb", "tb", "ra")}
    kept = AgentState(checkpoint=spaces[0], memory=(Span(Seq(3), Seq(3)),))
    needs = Needs(blobs, ())

    class Log:
        """What memory reads of a log."""

        def read(self, *, types: object) -> Iterator[object]:
            events = [
                SignalEmbedded(space=spaces[0], items=(), vectors=names["va"], dim=1, texts=names["ta"]),
                SignalEmbedded(space=spaces[1], items=(), vectors=names["vb"], dim=1, texts=names["tb"]),
                MemoryReembedded(space=spaces[0], rows=(), vectors=names["ra"], dim=1),
            ]
            for seq, event in enumerate(events, 2):
                yield type("R", (), {"seq": seq, "event": event})

    needs.state(kept)
    needs.memory(Log())  # type: ignore[arg-type]
    assert {name for name, digest in names.items() if digest in needs.digests} == {"va", "ta", "tb", "ra"}
    log.close()


def test_saved_states_that_lie_close_together_may_go() -> None:
    positions = [Seq(256 * n) for n in range(1, 101)]
    left = sorted(set(positions) - set(surplus_states(positions)))
    assert left[-SAVED_MAX:] == positions[-SAVED_MAX:]
    assert len(left) == SAVED_MAX + -(-positions[-SAVED_MAX - 1] // SAVED_APART)


def test_collection_of_a_stream_in_postgresql(tmp_path: Path) -> None:
    url = os.environ.get(SERVER)
    if not url:
        pytest.skip(f"{SERVER} names no PostgreSQL server")
    root = tmp_path / "agent"
    root.mkdir()
    (root / "a.py").write_bytes(b"x = 0\n")
    (root / "big.txt").write_bytes(BIG)
    settings = Settings(log_url=url)
    initialize(root, settings=settings, with_model=False)
    runtime = Runtime(root, actor="test", settings=settings)
    named = change(runtime, 1, name="good")
    change(runtime, 2)
    lost = runtime.reader.head()
    now = change(runtime, 3)
    done = sweep(runtime, look(runtime, OLD))
    assert done.collected > 0
    assert done.compacted is not None
    assert done.compacted.blobs > 0
    assert check(runtime.reader).problems == []
    assert any("MB  events" in finding.text for finding in examine(runtime.workspace))
    with pytest.raises(BlobCollected):
        roll_back(runtime, lost)
    roll_back(runtime, "snapshot:good")
    assert files_below(root) == named
    assert files_below(root) != now
    runtime.close()


# ---- the command line ----------------------------------------------------------------------------------------------


def test_dry_run_tells_and_changes_nothing(runtime: Runtime, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        change(runtime, number)
    head, stored = runtime.reader.head(), runtime.reader.stored_blobs()
    root = str(runtime.workspace.root)
    assert main(["gc", "-n", "--days", "0", "-C", root, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["data"]
    assert told["dry_run"]
    assert told["blobs"] > 0
    assert told["bytes"] == sum(size["bytes"] for size in told["going"].values())
    assert told["unreachable"]
    assert main(["gc", "-n", "--days", "0", "-C", root]) == 0
    text = capsys.readouterr().out
    assert f"{told['blobs']} blobs" in text
    assert "no return any more to" in text
    assert (runtime.reader.head(), runtime.reader.stored_blobs()) == (head, stored)


def test_agent_frees_room_itself(runtime: Runtime) -> None:
    root = runtime.workspace.root
    change(runtime, 1)
    named = change(runtime, 2, name="good")
    change(runtime, 3)
    runtime.close()
    with Engine(root, worker=False) as engine:
        with pytest.raises(ConfigError, match="must lie in"):
            engine.gc(days=-1)
        plan = engine.plan_gc(days=0).plan
        assert plan is not None
        assert plan.doomed
        done = engine.gc(days=0)
        assert (done.collected, done.event) == (len(plan.doomed), engine.status().head)
        assert engine.gc(days=0).event is None
        engine.rollback("snapshot:good")
        assert files_below(root) == named


def test_nothing_goes_unasked(runtime: Runtime, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        change(runtime, number)
    root = str(runtime.workspace.root)
    head = runtime.reader.head()
    assert main(["gc", "--days", "0", "-C", root]) == 4
    assert "give -y" in capsys.readouterr().err
    assert runtime.reader.head() == head
    assert main(["gc", "--days", "0", "-y", "-C", root]) == 0
    assert f"by event {head + 1}" in capsys.readouterr().out
    assert main(["verify", "-C", root]) == 0
    assert "collected" in capsys.readouterr().out
    assert main(["gc", "-C", root]) == 0
    assert main(["rollback", "3", "-n", "-C", root]) == 4
    assert "collected by event" in capsys.readouterr().err
    assert main(["gc", "--days", "-1", "-C", root]) == 2


def test_doctor_tells_what_takes_room(runtime: Runtime) -> None:
    change(runtime, 1)
    runtime.blobs.put(b"of nobody")
    change(runtime, 2)
    told = [finding.text for finding in examine(runtime.workspace) if finding.subject in {"room", "gc"}]
    for kind in ("code", "tree nodes", "named by no event", "events", "indexes"):
        assert any(kind in text for text in told), kind
    assert "1 blobs that no kept event needs" in told[-1]


# ---- killed at every step ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "point",
    ["gc.planned", "log.inserted", "log.committed", "log.collected", "blob.forgotten", "gc.pressed", "gc.rewritten",
     "log.vacuumed"],
)  # fmt: skip
def test_killed_sweep_loses_nothing_and_is_finished_by_the_next(runtime: Runtime, point: str) -> None:
    root = runtime.workspace.root
    change(runtime, 1)
    named = change(runtime, 2, name="good")
    now = change(runtime, 3)
    runtime.close()
    killed = instar("gc", "--days", "0", "-y", cwd=root, INSTAR_FAILPOINTS=f"{point}=kill")
    assert killed.returncode == -9, killed.stderr
    again = Runtime(root, actor="test")
    assert check(again.reader).problems == []
    sweep(again, look(again, OLD))
    assert plan_collection(again, OLD).doomed == ()
    assert check(again.reader).problems == []
    assert len(list(again.reader.read(types=[BlobsCollected]))) == 1
    roll_back(again, "snapshot:good")
    assert files_below(root) == named
    roll_back(again, next(r.seq for r in again.reader.read(types=[SnapshotTaken]) if "before" in r.event.name))  # type: ignore[union-attr]
    assert files_below(root) == now
    again.close()


def test_verify_names_every_event_that_needs_a_bad_blob(runtime: Runtime, capsys: pytest.CaptureFixture[str]) -> None:
    root = runtime.workspace.root
    (root / "kept.txt").write_bytes(b"the same in every tree\n" * 20)
    for number in range(3):
        change(runtime, number)
    bad = digest_of(b"the same in every tree\n" * 20)
    runtime.close()
    with closing(sqlite3.connect(runtime.workspace.log)) as connection:
        connection.execute("UPDATE blobs SET content = ? WHERE digest = ?", (press(b"something else"), bad))
        connection.commit()
    assert main(["verify", "--blobs", "-C", str(root), "--json"]) == 3
    told = json.loads(capsys.readouterr().out)["error"]["message"]
    first = next(LogReader(runtime.workspace.log).read(types=[ChangeObserved])).seq
    assert bad in told
    assert f"events {first}, " in told
    assert main(["verify", "--no-blobs", "-C", str(root)]) == 0
