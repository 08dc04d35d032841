"""Points in time, as an agent asks for them: snapshots, rollbacks, undo, restored files, versions, differences."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from instar.fsm.errors import InputRefused

from .arguments import takes_plain

if TYPE_CHECKING:
    from instar.engine.differences.state_diff import StateDiff
    from instar.engine.restoring.restore_path import Copied
    from instar.engine.restoring.rollback import RollbackPlan, RolledBack
    from instar.engine.runtime import Runtime
    from instar.engine.trees.path_versions import Version
    from instar.fsm.events import Part


@takes_plain
class Points:
    """The part of ``Engine`` that goes back in time."""

    @property
    def runtime(self) -> Runtime:
        """The opened workspace."""
        raise NotImplementedError

    def snapshot(self, name: str) -> int:
        """Stores what stands there now, and names the point.

        Raises:
            ConfigError: the name cannot be used.
            InputRefused: the name is one that rollbacks give.
            LogUnavailable: the disk is full or read-only.
        """
        from instar.engine.snapshot import take_snapshot

        return take_snapshot(self.runtime, name).seq

    def plan_rollback(self, reference: str | int, *, only: Collection[Part] | tuple[Part, ...] = ()) -> RollbackPlan:
        """Says what a rollback would add, change and delete; records nothing.

        Args:
            reference: where to.
            only: what alone is brought back: ``code``, ``checkpoint``, ``memory``; all by default.

        Raises:
            ConfigError: the reference names no position.
            Diverged, RollbackRefused, BlobMissing, BlobCorrupt: it could not be done; the message says why.
        """
        # The tuple is named beside the collection for mypy: else one that is written in place is of any texts to it.
        from instar.engine.restoring.rollback import plan_rollback

        return plan_rollback(self.runtime, reference, only=only)

    def rollback(
        self,
        wanted: str | int | RollbackPlan,
        *,
        only: Collection[Part] | tuple[Part, ...] = (),
        plan: str | None = None,
    ) -> RolledBack:
        """Puts code, checkpoint and memory back to a reference, or carries out a plan as it was made.

        Args:
            wanted: where to; or a plan of ``plan_rollback``, ``plan_undo`` or ``plan_restore``.
            only: what alone is brought back; all by default.
            plan: the digest of a plan that was looked at: refuse if it would be another now.

        Raises:
            ConfigError: the reference names no position.
            Diverged: the plan would be another now; nothing was moved.
            RollbackRefused, BlobMissing, BlobCorrupt: nothing was moved; the message says why.
        """
        from instar.engine.restoring.rollback import roll_back

        return roll_back(self.runtime, wanted, "asked for by the agent", only=only, plan=plan)

    def plan_undo(self) -> RollbackPlan:
        """Says what taking the last rollback back would do; records nothing.

        Raises:
            RollbackRefused: there is no rollback to take back.
        """
        from instar.engine.restoring.undo import plan_undo

        return plan_undo(self.runtime)

    def undo(self) -> RolledBack:
        """Takes the last rollback back; a second undo does it again.

        Raises:
            RollbackRefused: there is no rollback to take back.
            Diverged, BlobMissing, BlobCorrupt: nothing was moved; the message says why.
        """
        from instar.engine.restoring.undo import undo

        return undo(self.runtime)

    def plan_restore(self, paths: Sequence[str | Path], *, at: str | int) -> RollbackPlan:
        """Says what putting files and folders back as they stood at a reference would do; records nothing.

        Raises:
            ConfigError: a path leads out of the agent's folder, or was not captured there.
            InputRefused: a single path was given in place of a list.
        """
        from instar.engine.restoring.restore_path import plan_restore, tree_path

        if isinstance(paths, str | bytes | Path):
            raise InputRefused(f"the paths are one {type(paths).__name__}: give a list, such as [path]")
        root = self.runtime.workspace.root
        return plan_restore(self.runtime, [tree_path(root, path) for path in paths], at)

    def restore(self, paths: Sequence[str | Path], *, at: str | int) -> RolledBack:
        """Puts files and folders back as they stood at a reference; ``undo`` takes it back.

        Raises:
            ConfigError: a path leads out of the agent's folder, or was not captured there.
            InputRefused: a single path was given in place of a list.
            Diverged, RollbackRefused, BlobMissing, BlobCorrupt: nothing was moved; the message says why.
        """
        return self.rollback(self.plan_restore(paths, at=at))

    def copy_out(self, path: str | Path, to: str | Path, *, at: str | int) -> Copied:
        """Writes a file or folder as it stood at a reference to a place where nothing stands.

        Raises:
            ConfigError: it was not captured there, or something stands at the new place.
        """
        from instar.engine.restoring.restore_path import copy_to, tree_path

        return copy_to(self.runtime, tree_path(self.runtime.workspace.root, path), at, Path(to))

    def versions(self, path: str | Path) -> list[Version]:
        """Lists the versions of a file that the log holds, oldest first.

        Raises:
            ConfigError: it holds none.
        """
        from instar.engine.restoring.restore_path import tree_path
        from instar.engine.trees.path_versions import versions

        runtime = self.runtime
        return versions(runtime.reader, runtime.capture.nodes, tree_path(runtime.workspace.root, path))

    def diff(self, a: str | int, b: str | int = "latest") -> StateDiff:
        """Says what differs between two points: code, checkpoint, memory, rewards, policy.

        Raises:
            ConfigError: a reference names no position.
        """
        from instar.engine.differences.state_diff import compare_states
        from instar.engine.references import resolve

        reader = self.runtime.reader
        return compare_states(reader, self.runtime.blobs, resolve(reader, a), resolve(reader, b))
