"""Rollbacks, undos, restored paths, stale plans and kills, at random, in the life of a workspace."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from hypothesis import assume
from hypothesis import strategies as st
from hypothesis.stateful import multiple, precondition, rule

from instar.engine.keeping.housekeeping import look as look_after
from instar.engine.keeping.housekeeping import sweep
from instar.engine.loop import Loop
from instar.engine.restoring.restore_path import plan_restore
from instar.engine.restoring.rollback import RolledBack, finish_begun, plan_rollback, roll_back
from instar.engine.restoring.undo import undo
from instar.engine.runtime import Runtime
from instar.engine.snapshot import take_snapshot
from instar.engine.watcher import rescan
from instar.fsm.errors import BlobMissing, Diverged, RollbackRefused
from instar.fsm.events import BlobsCollected, Part, RollbackFinished, RollbackStarted
from instar.fsm.react import EffectName
from instar.fsm.words import digest_of
from instar.store.trees import encode_path
from tests.crash.test_failpoints import named_failpoints
from tests.engine.edits import put
from tests.engine.workspaces import Leaf

from .workspace_life import RETENTION, WorkspaceLife
from .workspace_model import PATHS, Asked, Point, leaves, outside, over, places, some_parts, taken


def _points(*beginnings: str) -> list[str]:
    """Names the failpoints that work of some kind may pass: those that a new step of it brings along are among them."""
    return sorted(name for name in named_failpoints() if name.startswith(beginnings))


RESTORING = _points("rollback.", "restore.")
STORING = _points("log.locked", "log.decided", "log.inserted", "log.committed", "blob.", "durable.")
COLLECTING = _points("gc.", "log.collected", "log.vacuumed", "log.checkpointed")
TAKING_CYCLES = _points(*EffectName)

_OTHER_WORK = st.one_of(
    st.tuples(st.just("gc"), st.sampled_from(COLLECTING) | st.sampled_from(STORING)),
    st.tuples(st.just("snapshot"), st.sampled_from(STORING)),
    st.tuples(st.just("cycle"), st.sampled_from(TAKING_CYCLES) | st.sampled_from(STORING)),
)

points = WorkspaceLife.points
Work = Callable[[Runtime], object]


class WorkspaceMachine(WorkspaceLife):
    """All that can be done to a workspace.

    ``last`` is what the last rollback brought back, and from where: an undo leads there.
    """

    def __init__(self) -> None:
        super().__init__()
        self.last: Asked | None = None

    # ---- rollbacks -------------------------------------------------------------------------------------------------

    @rule(target=points, point=points, parts=some_parts)
    def rolls_back(self, point: Point, parts: tuple[Part, ...]) -> object:
        self._done("rollback" if len(parts) == 3 else f"rollback of {' and '.join(parts)} only")
        return self._tries(Asked(point, parts), lambda runtime: roll_back(runtime, _reference(point), only=parts))

    @rule(target=points, point=points, data=st.data())
    def brings_a_path_back(self, point: Point, data: st.DataObject) -> object:
        """A file, or a folder with all that is below it."""
        assume(paths := places(point.tree()))
        path = data.draw(st.sampled_from(paths))
        self._done("one path")
        return self._tries(Asked(point, ("code",), path), _restoring(point, path))

    @precondition(lambda self: self.last is not None)
    @rule(target=points)
    def undoes(self) -> object:
        assert self.last is not None
        self._done("undo")
        return self._tries(self.last, undo)

    @precondition(lambda self: self.last is not None)
    @rule(target=points)
    def undoes_the_undo(self) -> object:
        assert self.last is not None
        self._done("undo of an undo")
        before = self._stands()
        found = self._tries(self.last, undo)
        if isinstance(found, Point) and self.last.parts == ("code", "checkpoint", "memory") and not self.last.path:
            undo(self.runtime)
            assert self._stands() == before
            self.last = None
        return found

    @rule(
        target=points,
        point=points,
        parts=some_parts,
        path=st.sampled_from(PATHS),
        leaf=leaves,
        by_digest=st.booleans(),
    )
    def rolls_back_by_a_plan_made_before_an_edit(
        self, point: Point, parts: tuple[Part, ...], path: bytes, leaf: Leaf | None, by_digest: bool
    ) -> object:
        """Such a plan moves nothing that it did not show."""
        self._done("edit after the plan")
        planned_from = dict(taken(self._look()))
        try:
            plan = plan_rollback(self.runtime, _reference(point), only=parts)
        except (RollbackRefused, BlobMissing):
            return multiple()
        self._put(path, leaf)
        edited = self._stands()
        same = dict(taken(edited.tree())) == planned_from
        asked = Asked(point, parts)

        def held(runtime: Runtime) -> RolledBack:
            reference = _reference(point)
            return (
                roll_back(runtime, reference, only=parts, plan=plan.digest) if by_digest else roll_back(runtime, plan)
            )

        try:
            found = self._tries(asked, held)
        except Diverged:
            self._done("stale plan refused")
            assert "code" in parts
            assert self._stands() == edited
            return multiple()
        moves_nothing_else = same or asked.spares_captured(edited)
        assert moves_nothing_else or "code" not in parts or not isinstance(found, Point), "a stale plan was carried out"
        return found

    def _tries(self, asked: Asked, work: Callable[[Runtime], RolledBack]) -> object:
        """Rolls back, and looks at what stands then; gives the point in front of it, if it moved anything."""
        before = self._stands()
        try:
            done = work(self.runtime)
        except RollbackRefused:
            self._unmoved(before)
            assert asked.may_be_refused(before) or self._is_gone(asked.point)
            return multiple()
        except BlobMissing:
            self._unmoved(before)
            assert self._is_gone(asked.point), "what was to be kept is gone"
            return multiple()
        self._reached(before, asked)
        return self._back_to(f"snapshot:{done.safety}", before, asked)

    def _back_to(self, reference: str, before: Point, asked: Asked) -> Point:
        found = self._remembered(reference, before)
        self.last = Asked(found, asked.parts, asked.path)
        return found

    # ---- kills -----------------------------------------------------------------------------------------------------

    @rule(
        target=points,
        point=points,
        parts=some_parts,
        way=st.sampled_from(["reference", "path", "undo"]),
        edit=st.tuples(st.sampled_from(PATHS), leaves),
        name=st.sampled_from(RESTORING) | st.sampled_from(RESTORING) | st.sampled_from(STORING),
        passes=st.sampled_from([1, 1, 1, 2, 3]),
        again=st.none() | st.sampled_from(RESTORING),
        typed=st.none() | st.binary(min_size=1, max_size=20),
        data=st.data(),
    )
    def is_killed_in_a_rollback(
        self,
        point: Point,
        parts: tuple[Part, ...],
        way: str,
        edit: tuple[bytes, Leaf | None],
        name: str,
        passes: int,
        again: str | None,
        typed: bytes | None,
        data: st.DataObject,
    ) -> object:
        asked, work = self._way(way, point, parts, data)
        self._put(*edit)
        before = self._stands()
        started, finished = self._recorded(RollbackStarted), self._recorded(RollbackFinished)
        died = self._in_a_child(f"{name}=kill@{passes}", lambda runtime: _bearing(work, runtime))
        self._done(f"kill in a rollback ({way})" if died else "rollback in a process of its own")
        if self.runtime.state.restoring is not None:
            self._recovers(before, asked, again, typed)
        assert self._recorded(RollbackStarted) - started == self._recorded(RollbackFinished) - finished
        if self._recorded(RollbackStarted) == started:  # killed before it began, or refused
            self._unmoved(before)
            assert died or asked.may_be_refused(before) or self._is_gone(asked.point)
            return multiple()
        self._reached(before, asked)
        last = self.runtime.reader.tail(1, [RollbackStarted])[0].event
        assert isinstance(last, RollbackStarted)
        safety = max(self.runtime.state.snapshots.items(), key=lambda each: each[1])[0]
        return self._back_to(f"snapshot:{safety}", before, asked)

    def _way(self, way: str, point: Point, parts: tuple[Part, ...], data: st.DataObject) -> tuple[Asked, Work]:
        if way == "undo" and self.last is not None:
            return self.last, undo
        paths = places(point.tree())
        if way == "path" and paths:
            path = data.draw(st.sampled_from(paths))
            return Asked(point, ("code",), path), _restoring(point, path)
        return Asked(point, parts), lambda runtime: roll_back(runtime, _reference(point), only=parts)

    def _recovers(self, before: Point, asked: Asked, again: str | None, typed: bytes | None) -> None:
        """Types into a file that is being restored, dies once more, and goes on."""
        then, now = asked.reaches(before).tree(), before.tree()
        moved = [path for path, leaf in taken(then) if now.get(path) != leaf and not outside(path)]
        if typed is not None and moved and not any(over(leaf) for leaf in now.values()):
            put(self.root, moved[0], ("file", 0o644, typed))
            self.captured[digest_of(typed)] = typed
        if again is not None and self._in_a_child(f"{again}=kill", finish_begun):
            self._done("kill in a recovery")
        self._recover()

    @rule(work=_OTHER_WORK, passes=st.sampled_from([1, 1, 1, 2, 3]))
    def is_killed_at_other_work(self, work: tuple[str, str], passes: int) -> None:
        """No file moves, and what was captured stays."""
        what, name = work
        self._name_what_stands()
        before, collections = self._stands(), self._recorded(BlobsCollected)
        label = f"killed-{self.steps.total()}"
        died = self._in_a_child(f"{name}=kill@{passes}", lambda runtime: _WORK[what](runtime, label))
        self._done(f"kill in a {what}" if died else f"{what} in a process of its own")
        after = self._stands()
        assert (after.copy, after.checkpoint) == (before.copy, before.checkpoint) or what == "cycle"
        assert after.copy == before.copy
        if self._recorded(BlobsCollected) > collections:
            self._may_have_lost()

    # ---- what has to be true ---------------------------------------------------------------------------------------

    def _reached(self, before: Point, asked: Asked) -> None:
        assert self._stands().tree() == asked.reaches(before).tree()
        stands, wanted = self._stands(), asked.reaches(before)
        assert (stands.checkpoint, stands.rows) == (wanted.checkpoint, wanted.rows)
        if "code" in asked.parts:
            if asked.spares_captured(before):
                rescan(self.runtime)
            self._same_as_log()

    def _unmoved(self, before: Point) -> None:
        assert self._stands() == before
        assert self.runtime.state.restoring is None

    def _is_gone(self, point: Point) -> bool:
        """Says whether a point was not to be kept."""
        return point.reference not in {one.reference for one in self.kept}


def _reference(point: Point) -> str | int:
    assert point.reference is not None
    return point.reference


def _restoring(point: Point, path: bytes) -> Callable[[Runtime], RolledBack]:
    return lambda runtime: roll_back(runtime, plan_restore(runtime, [encode_path(path)], _reference(point)))


def _bearing(work: Work, runtime: Runtime) -> None:
    with suppress(RollbackRefused, BlobMissing):
        work(runtime)


def _cycle(runtime: Runtime, _: str) -> None:
    loop = Loop(runtime)
    for _turn in range(4):
        loop.step()


_WORK: dict[str, Callable[[Runtime, str], object]] = {
    "gc": lambda runtime, _: sweep(runtime, look_after(runtime, RETENTION)),
    "snapshot": lambda runtime, label: take_snapshot(runtime, label),
    "cycle": _cycle,
}
