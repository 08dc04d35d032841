"""A workspace under random edits, captures, cycles and collections, beside a model that keeps whole copies."""

from __future__ import annotations

import os
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from instar.engine import initialize as beginning
from instar.engine.keeping.housekeeping import look as look_after
from instar.engine.keeping.housekeeping import sweep
from instar.engine.loop import Loop
from instar.engine.memory.rows import live_rows
from instar.engine.replay import replay
from instar.engine.restoring.rollback import finish_begun
from instar.engine.runtime import Runtime
from instar.engine.settings import Settings, WatchSettings
from instar.engine.snapshot import take_snapshot
from instar.engine.watcher import Watcher, rescan
from instar.fsm.events import AnyEvent
from instar.fsm.retention import SAFETY, Retention
from instar.fsm.words import Digest, digest_of
from instar.store import failpoints
from instar.store.trees import decode_path, read_tree
from tests.crash.tree_scenes import MEMORY
from tests.engine.edits import put, remove
from tests.engine.workspaces import Leaf, Wanted, look

from .workspace_model import CAP_BYTES, OUTSIDE, PATHS, Point, files, leaves, own, taken, whole

RETENTION = Retention(days=0, promotions_max=0, safety_max=2)


class WorkspaceLife(RuleBasedStateMachine):
    """The real code on a real folder, and the model."""

    points = Bundle("points")
    settings: ClassVar[Settings] = Settings(watch=WatchSettings(cap_bytes=CAP_BYTES))
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
        self._initialize()
        self._open()
        return self._captured(1)

    def _initialize(self) -> None:
        beginning.initialize(self.root, settings=self.settings, with_model=False)

    # ---- edits -----------------------------------------------------------------------------------------------------

    @rule(path=st.sampled_from(PATHS), leaf=leaves)
    def puts(self, path: bytes, leaf: Leaf | None) -> None:
        self._done("edit")
        self._put(path, leaf)

    def _put(self, path: bytes, leaf: Leaf | None) -> None:
        put(self.root, path, ("file", 0o644, b"") if path in OUTSIDE and leaf is None else leaf)

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
        self._name_what_stands()
        sweep(self.runtime, look_after(self.runtime, RETENTION))
        self._may_have_lost()

    def _name_what_stands(self) -> None:
        take_snapshot(self.runtime, name := f"named-{self.steps.total()}")
        self._captured(f"snapshot:{name}")

    def _may_have_lost(self) -> None:
        """Takes in that a collection was allowed to take everything that its retention does not name."""
        safety = [name for name in self.runtime.state.snapshots if name.startswith(SAFETY)]
        latest = sorted(safety, key=lambda name: self.runtime.state.snapshots[name])[-RETENTION.safety_max :]
        named = [name for name in self.runtime.state.snapshots if not name.startswith(SAFETY)]
        kept = {1, *(f"snapshot:{name}" for name in (*latest, *named))}
        self.kept = [point for point in self.kept if point.reference in kept]
        self.captured = {
            digest_of(content): content for point in self.kept for _, (_, _, content) in taken(point.tree())
        }

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

    def _stands(self, reference: str | int | None = None) -> Point:
        """Copies what stands now."""
        state = self.runtime.state
        rows = frozenset(live_rows(self.runtime.reader, state.memory))
        return Point(reference, whole(self._look()), state.checkpoint, rows)

    def _look(self) -> Wanted:
        return own(look(self.root))

    def _captured(self, reference: str | int) -> Point:
        self._same_as_log()
        return self._remembered(reference, self._stands())

    def _remembered(self, reference: str | int, point: Point) -> Point:
        self.captured |= {digest_of(content): content for _, (_, _, content) in taken(point.tree())}
        point = Point(reference, point.copy, point.checkpoint, point.rows)
        self.kept.append(point)
        return point

    def _same_as_log(self) -> None:
        digest = self.runtime.state.tree
        assert digest is not None
        tree = read_tree(self.runtime.blobs, digest)
        logged = {decode_path(path): (each.kind, each.mode, each.blob) for path, each in tree.files.items()}
        stands = {path: (kind, mode, digest_of(content)) for path, (kind, mode, content) in taken(self._look())}
        assert logged == stands

    # ---- the rest --------------------------------------------------------------------------------------------------

    def _opened(self) -> Runtime:
        return Runtime(self.root, actor="test", settings=self.settings)

    def _open(self) -> None:
        """Opens the workspace and begins to watch it, which looks at everything first."""
        self.runtime = self._opened()
        self.watcher = Watcher(self.runtime, threading.Event())
        self.watcher.start()

    def _close(self) -> None:
        self.watcher.stop()
        self.runtime.close()

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

    def _recorded(self, kind: type[AnyEvent]) -> int:
        return sum(1 for _ in self.runtime.reader.read(types=[kind]))

    def _any_file(self, data: st.DataObject) -> Path | None:
        found = sorted(path for path, leaf in self._look().items() if leaf is not None and leaf[0] == "file")
        return self.root / os.fsdecode(data.draw(st.sampled_from(found))) if found else None

    def _recover(self) -> None:
        finish_begun(self.runtime)
        self._done("recovery")

    def _done(self, what: str) -> None:
        self.steps[what] += 1
