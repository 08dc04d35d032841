"""A workspace under random edits, captures, rollbacks, undos and crashes, beside a model that keeps whole copies."""

from __future__ import annotations

import os
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

from instar.engine import initialize as beginning
from instar.engine.housekeeping import look as look_after
from instar.engine.housekeeping import sweep
from instar.engine.loop import Loop
from instar.engine.replay import replay
from instar.engine.restore_path import plan_restore
from instar.engine.rollback import RolledBack, finish_begun, roll_back
from instar.engine.runtime import Runtime
from instar.engine.settings import Settings, WatchSettings
from instar.engine.snapshot import take_snapshot
from instar.engine.undo import undo
from instar.engine.watcher import Watcher, rescan
from instar.fsm.errors import BlobMissing, RollbackRefused
from instar.fsm.events import RollbackFinished
from instar.fsm.record import Recorded
from instar.fsm.retention import SAFETY, Retention
from instar.fsm.words import Digest, digest_of
from instar.store import failpoints
from instar.store.trees import decode_path, encode_path, read_tree
from tests.crash.test_failpoints import named_failpoints
from tests.crash.tree_scenes import MEMORY
from tests.engine.edits import put, remove
from tests.engine.workspaces import Leaf, Wanted, look

CAP_BYTES = 2_000_000
SETTINGS = Settings(watch=WatchSettings(cap_bytes=CAP_BYTES))
RETENTION = Retention(days=0, promotions_max=0, safety_max=2)
OUTSIDE = (b".env", b"node_modules/x.js", b"old.pyc")
"""What no capture takes in, so no rollback may touch."""
PATHS = [
    *(b"a.py", b"b.py", b"pkg/b.py", b"pkg/deep/c.py", b"pkg/deep", b"pkg", b"b.py/inside", b"\xff%41", b"with space"),
    *OUTSIDE,
]
POINTS = sorted(name for name in named_failpoints() if name.startswith(("rollback.", "restore.")))
"""Where a rollback is killed: a failpoint that a new step of it brings along is among them."""

contents = (
    st.sampled_from([b"", b"one\n", b"two\n"])
    | st.sampled_from([("x", 1_100_000), ("y", 1_100_000), ("z", 2_100_000)]).map(
        lambda each: each[0].encode() * each[1]
    )
    | st.binary(max_size=40)
    | st.binary(min_size=8, max_size=8)
)
"""In the database, as a file of its own, and over the cap; short ones of one size among them."""
files = st.tuples(st.just("file"), st.sampled_from([0o644, 0o600, 0o755, 0o444]), contents)
links = st.tuples(st.just("link"), st.just(0o777), st.sampled_from([b"a.py", b"pkg", b"../../etc/passwd", b"\xff"]))


@dataclass(frozen=True)
class Point:
    """A captured moment: how to refer to it, and all that stood there."""

    reference: str | int
    copy: tuple[tuple[bytes, Leaf | None], ...]

    def tree(self) -> Wanted:
        return dict(self.copy)


class WorkspaceMachine(RuleBasedStateMachine):
    """The real code on a real folder, and the model."""

    points = Bundle("points")
    steps: ClassVar[Counter[str]] = Counter()
    """Counts what was done, over all runs of this process."""

    def __init__(self) -> None:
        super().__init__()
        self._place = tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None)
        self.root = Path(self._place.name) / "agent"
        self.root.mkdir()
        self.captured: dict[Digest, bytes] = {}
        self.kept: list[Point] = []

    @initialize(target=points, leaf=files)
    def set_up(self, leaf: Leaf) -> Point:
        put(self.root, b"a.py", leaf)
        beginning.initialize(self.root, settings=SETTINGS, with_model=False)
        self._open()
        return self._captured(1)

    # ---- edits -----------------------------------------------------------------------------------------------------

    @rule(path=st.sampled_from(PATHS), leaf=files | files | links | st.none())
    def puts(self, path: bytes, leaf: Leaf | None) -> None:
        self._done("edit")
        if path in OUTSIDE and leaf is None:
            leaf = ("file", 0o644, b"")
        put(self.root, path, leaf)

    @rule(path=st.sampled_from(PATHS))
    def removes(self, path: bytes) -> None:
        self._done("edit")
        remove(self.root / os.fsdecode(path))

    @rule(data=st.data(), more=st.binary(min_size=1, max_size=9))
    def appends(self, data: st.DataObject, more: bytes) -> None:
        self._done("edit")
        if (place := self._any_file(data)) is not None:
            with place.open("ab") as file:
                file.write(more)

    @rule(data=st.data(), flip=st.integers(0, 255))
    def writes_in_place_and_puts_the_time_back(self, data: st.DataObject, flip: int) -> None:
        """Same size, same inode, same time of change of content: only a look at the bytes, or at ctime, can tell."""
        self._done("edit")
        if (place := self._any_file(data)) is not None:
            before = place.stat()
            place.write_bytes(bytes(byte ^ flip for byte in place.read_bytes()))
            os.utime(place, ns=(before.st_atime_ns, before.st_mtime_ns))

    @rule(data=st.data(), mode=st.sampled_from([0o644, 0o600, 0o755, 0o444]))
    def changes_mode(self, data: st.DataObject, mode: int) -> None:
        self._done("edit")
        if (place := self._any_file(data)) is not None:
            place.chmod(mode)

    @rule(data=st.data(), path=st.sampled_from([b"moved.py", b"pkg/moved.py", b"a.py"]))
    def renames(self, data: st.DataObject, path: bytes) -> None:
        self._done("edit")
        place = self._any_file(data)
        target = self.root / os.fsdecode(path)
        if place is not None and target not in place.parents and not target.is_dir() and target.parent.is_dir():
            place.rename(target)

    # ---- captures --------------------------------------------------------------------------------------------------

    @rule(target=points)
    def captures(self) -> Point:
        self._done("capture")
        rescan(self.runtime)
        return self._captured(self.runtime.state.head)

    @rule(target=points)
    def captures_what_it_was_told(self) -> Point:
        """The watcher's own look, which reads what the system told of alone, if that is proved to be all."""
        self._done("capture of what was told")
        self.watcher.look()
        return self._captured(self.runtime.state.head)

    @rule(target=points)
    def takes_snapshot(self) -> Point:
        self._done("snapshot")
        name = f"named-{self.steps.total()}"
        take_snapshot(self.runtime, name)
        return self._captured(f"snapshot:{name}")

    @rule(steps=st.integers(1, 3))
    def goes_on_with_its_cycles(self, steps: int) -> None:
        self._done("cycle")
        loop = Loop(self.runtime)
        for _ in range(steps):
            loop.step()

    @rule()
    def is_opened_anew(self) -> None:
        self._done("reopen")
        self._close()
        self._open()

    @rule()
    def collects_garbage(self) -> None:
        """Only the named points, the first, and the latest that rollbacks took are to be returned to afterwards."""
        self._done("gc")
        take_snapshot(self.runtime, name := f"named-{self.steps.total()}")
        self._captured(f"snapshot:{name}")
        sweep(self.runtime, look_after(self.runtime, RETENTION))
        safety = [name for name in self.runtime.state.snapshots if name.startswith(SAFETY)]
        latest = sorted(safety, key=lambda name: self.runtime.state.snapshots[name])[-RETENTION.safety_max :]
        kept = {1, *(f"snapshot:{name}" for name in (*latest, *self._named()))}
        self.kept = [point for point in self.kept if point.reference in kept]
        self.captured = {
            digest_of(content): content for point in self.kept for _, (_, _, content) in _taken(point.tree())
        }

    # ---- rollbacks -------------------------------------------------------------------------------------------------

    @rule(target=points, point=points)
    def rolls_back(self, point: Point) -> object:
        self._done("rollback")
        before = look(self.root)
        if (done := self._rolled_back(before, point)) is None:
            return multiple()
        self._reached(before, point)
        return self._remembered(f"snapshot:{done.safety}", before)

    @rule(target=points, point=points)
    def rolls_back_and_takes_it_back(self, point: Point) -> object:
        self._done("undo")
        before = look(self.root)
        if (done := self._rolled_back(before, point)) is None:
            return multiple()
        undo(self.runtime)
        assert look(self.root) == before
        undo(self.runtime)
        self._reached(before, point)
        return self._remembered(f"snapshot:{done.safety}", before)

    @rule(target=points, point=points, data=st.data())
    def brings_one_path_back(self, point: Point, data: st.DataObject) -> object:
        self._done("one path")
        paths = sorted(path for path, _ in _taken(point.tree()))
        if not paths:
            return multiple()
        path = data.draw(st.sampled_from(paths))
        before = look(self.root)
        try:
            plan = plan_restore(self.runtime, [encode_path(path)], point.reference)
            done = roll_back(self.runtime, plan)
        except RollbackRefused:
            assert look(self.root) == before
            assert any(_over(leaf) and _meet(path, other) for other, leaf in before.items())
            return multiple()
        except BlobMissing:
            return self._gone(before, point)
        expected = {other: leaf for other, leaf in before.items() if not _meet(path, other)}
        assert look(self.root) == expected | {path: point.tree()[path]}
        self._same_as_log()
        return self._remembered(f"snapshot:{done.safety}", before)

    @rule(
        target=points,
        point=points,
        name=st.sampled_from(POINTS),
        passes=st.integers(1, 4),
        again=st.none() | st.sampled_from(POINTS),
        typed=st.none() | st.binary(min_size=1, max_size=20),
    )
    def is_killed_in_a_rollback(
        self, point: Point, name: str, passes: int, again: str | None, typed: bytes | None
    ) -> object:
        before = look(self.root)
        finished = len(self._finished())
        died = self._in_a_child(f"{name}=kill@{passes}", lambda runtime: _try(runtime, point))
        self._done("kill" if died else "rollback")
        if self.runtime.state.restoring is not None:
            self._recovers(point, again, typed)
        elif len(self._finished()) == finished:  # killed before it began, or refused
            assert look(self.root) == before
            assert died or _refusal(before, point.tree()) or point not in self.kept
            return multiple()
        self._reached(before, point)
        return self._remembered(self.runtime.state.head, look(self.root))

    def _recovers(self, point: Point, again: str | None, typed: bytes | None) -> None:
        """Types into a file that is being restored, dies once more, and goes on."""
        path = next((path for path, leaf in point.copy if leaf is not None and not _outside(path)), None)
        if typed is not None and path is not None:
            put(self.root, path, ("file", 0o644, typed))
            self.captured[digest_of(typed)] = typed
        if again is not None and self._in_a_child(f"{again}=kill", finish_begun):
            self._done("kill")
        finish_begun(self.runtime)
        self._done("recovery")

    # ---- what has to be true ---------------------------------------------------------------------------------------

    @invariant()
    def no_restore_is_left_half_done(self) -> None:
        if hasattr(self, "runtime"):
            assert self.runtime.state.restoring is None

    def teardown(self) -> None:
        if hasattr(self, "runtime"):
            assert replay(self.runtime.reader).state == self.runtime.state
            for digest, content in self.captured.items():
                assert self.runtime.blobs.get(digest) == content, "bytes that were on disk at a capture are gone"
            self._close()
        self._place.cleanup()

    def _reached(self, before: Wanted, point: Point) -> None:
        assert look(self.root) == _expected(before, point.tree())
        self._same_as_log()

    def _rolled_back(self, before: Wanted, point: Point) -> RolledBack | None:
        try:
            return roll_back(self.runtime, point.reference)
        except RollbackRefused:
            self._refused(before, point)
        except BlobMissing:
            self._gone(before, point)
        return None

    def _gone(self, before: Wanted, point: Point) -> object:
        """Only a point that was not to be kept can be gone, and then nothing moves."""
        assert point not in self.kept
        assert look(self.root) == before
        assert self.runtime.state.restoring is None
        return multiple()

    def _refused(self, before: Wanted, point: Point) -> None:
        """A refusal has a reason, and moved nothing."""
        assert look(self.root) == before
        assert _refusal(before, point.tree())
        assert self.runtime.state.restoring is None

    def _same_as_log(self) -> None:
        digest = self.runtime.state.tree
        assert digest is not None
        tree = read_tree(self.runtime.blobs, digest)
        logged = {decode_path(path): (each.kind, each.mode, each.blob) for path, each in tree.files.items()}
        stands = {path: (kind, mode, digest_of(content)) for path, (kind, mode, content) in _taken(look(self.root))}
        assert logged == stands

    # ---- the rest --------------------------------------------------------------------------------------------------

    def _captured(self, reference: str | int) -> Point:
        self._same_as_log()
        return self._remembered(reference, look(self.root))

    def _remembered(self, reference: str | int, copy: Wanted) -> Point:
        self.captured |= {digest_of(content): content for _, (_, _, content) in _taken(copy)}
        point = Point(reference, tuple(copy.items()))
        self.kept.append(point)
        return point

    def _opened(self) -> Runtime:
        return Runtime(self.root, actor="test", settings=SETTINGS)

    def _open(self) -> None:
        """Opens the workspace and begins to watch it, which looks at everything first."""
        self.runtime = self._opened()
        self.watcher = Watcher(self.runtime, threading.Event())
        self.watcher.start()

    def _close(self) -> None:
        self.watcher.stop()
        self.runtime.close()

    def _named(self) -> list[str]:
        return [name for name in self.runtime.state.snapshots if not name.startswith(SAFETY)]

    def _finished(self) -> list[Recorded]:
        return list(self.runtime.reader.read(types=[RollbackFinished]))

    def _in_a_child(self, armed: str, work: Callable[[Runtime], object]) -> bool:
        """Works in a process of its own with a failpoint armed; says whether that killed it."""
        self._close()
        child = os.fork()
        if child == 0:
            try:
                failpoints.arm(armed)
                work(self._opened())
                os._exit(0)
            finally:
                os._exit(1)
        status = os.waitpid(child, 0)[1]
        self._open()
        assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
        return os.WIFSIGNALED(status)

    def _any_file(self, data: st.DataObject) -> Path | None:
        found = sorted(path for path, leaf in look(self.root).items() if leaf is not None and leaf[0] == "file")
        return self.root / os.fsdecode(data.draw(st.sampled_from(found))) if found else None

    def _done(self, what: str) -> None:
        self.steps[what] += 1


def _try(runtime: Runtime, point: Point) -> None:
    with suppress(RollbackRefused, BlobMissing):
        roll_back(runtime, point.reference)


def _meet(path: bytes, other: bytes) -> bool:
    """Says whether one is the other, or lies below it."""
    return path == other or path.startswith(other + b"/") or other.startswith(path + b"/")


def _outside(path: bytes) -> bool:
    return path in OUTSIDE or path.startswith(b"node_modules")


def _over(leaf: Leaf | None) -> bool:
    return leaf is not None and leaf[0] == "file" and len(leaf[2]) > CAP_BYTES


def _taken(copy: Wanted) -> Iterator[tuple[bytes, Leaf]]:
    """Yields what a capture takes in."""
    for path, leaf in copy.items():
        if leaf is not None and not _outside(path) and not _over(leaf):
            yield path, leaf


def _expected(before: Wanted, then: Wanted) -> Wanted:
    """What stands after a rollback: all that the target had captured, and what it could not capture as it was."""
    expected = {path: leaf for path, leaf in then.items() if not _outside(path) and not _over(leaf)}
    expected |= {path: leaf for path, leaf in before.items() if _outside(path)}
    for path, leaf in before.items():
        if _over(leaf) or (leaf is not None and _over(then.get(path))):
            expected[path] = leaf
    return expected


def _refusal(before: Wanted, then: Wanted) -> bool:
    """Says whether something that is not captured stands where the target has something."""
    wanted = {path for path in then if not _outside(path)}
    blocking = {path for path, leaf in before.items() if _over(leaf) and not _over(then.get(path))}
    return any(_meet(path, over) for over in blocking for path in wanted)
