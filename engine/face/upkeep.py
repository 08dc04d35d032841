"""Room in the store, as an agent frees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .arguments import takes_plain

if TYPE_CHECKING:
    from instar.engine.keeping.housekeeping import Kept, Swept
    from instar.engine.runtime import Runtime
    from instar.fsm.retention import Retention


@takes_plain
class Upkeep:
    """The part of ``Engine`` that frees room."""

    @property
    def runtime(self) -> Runtime:
        """The opened workspace."""
        raise NotImplementedError

    def plan_gc(self, *, days: float | None = None, collect: bool = True) -> Kept:
        """Says what ``gc`` would free, and to which events one could not return any more; records nothing.

        Args:
            days: keep everything younger than this; as ``[retention]`` says by default.
            collect: look for what no kept event needs; without, only for what can be stored in less room.

        Raises:
            ConfigError: ``days`` is out of its range.
            BlobMissing, BlobCorrupt: something that is needed is lost, and has to be restored first.
        """
        from instar.engine.keeping.housekeeping import look

        return look(self.runtime, self._retention(days), collects=collect)

    def gc(self, *, days: float | None = None, collect: bool = True, compact: bool = True) -> Swept:
        """Takes away what no kept event needs, and stores the rest in less room. Events are never touched.

        Args:
            days: keep everything younger than this; as ``[retention]`` says by default.
            collect: take away what no kept event needs. There is no way back to what it held.
            compact: store what stays in less room.

        Raises:
            ConfigError: ``days`` is out of its range.
            WorkerBusy: another process is at it.
            BlobMissing, BlobCorrupt: as ``plan_gc``; nothing is gone.
            LogUnavailable: the disk is full or read-only; nothing is gone.
        """
        from instar.engine.keeping.housekeeping import sweep

        return sweep(self.runtime, self.plan_gc(days=days, collect=collect), compacts=compact)

    def _retention(self, days: float | None) -> Retention:
        from instar.engine.keeping.housekeeping import retention_of

        return retention_of(self.runtime, days)
