"""What ``instar gc`` does, in order: leftovers, collection, saved states, compaction, room back to the file system."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct
from msgspec.structs import replace

from instar.engine.restoring.rollback import finish_begun
from instar.engine.runtime import Runtime
from instar.fsm.errors import ConfigError, LogUnavailable, WorkerBusy
from instar.fsm.retention import Retention
from instar.fsm.words import Seq
from instar.store.lock import FileLock
from instar.store.packing import is_pressed

from .compaction import Compacted, compact
from .gc import CollectionPlan, collect, plan_collection
from .leftovers import Leftover, find_leftovers, remove_leftovers, surplus_states, thin_states

DAYS_MAX = 36_500

Progress = Callable[[str, int, int, str], object]
"""Called with what is done, the step, out of how many, and a note."""


class Kept(Struct, frozen=True, kw_only=True):
    """What a sweep would do: nothing is done yet."""

    plan: CollectionPlan | None
    """None where nothing is to be collected."""
    leftovers: tuple[Leftover, ...]
    saved_states: int
    """How many saved states would go."""
    unpressed_blobs: int
    unpressed_bytes: int
    """Blobs that no compaction has seen, and what they take."""


class Swept(Struct, frozen=True, kw_only=True):
    """What a sweep did."""

    event: Seq | None
    """The event of the collection, if anything was collected."""
    collected: int
    collected_bytes: int
    leftovers: tuple[Leftover, ...]
    saved_states: int
    compacted: Compacted | None
    note: str
    """Why the file could not be made smaller, if so."""


def retention_of(runtime: Runtime, days: float | None) -> Retention:
    """Gives what the settings say is to be kept, with another number of days if one is given.

    Raises:
        ConfigError: that is out of its range.
    """
    if days is not None and not 0 <= days <= DAYS_MAX:
        raise ConfigError(f"days is {days:g}; it must lie in 0 … {DAYS_MAX}")
    kept = runtime.settings.retention
    return kept if days is None else replace(kept, days=days)


def look(runtime: Runtime, retention: Retention | None = None, *, collects: bool = True) -> Kept:
    """Finds out what can be freed; a restore that was cut off is rolled forward first.

    Raises:
        BlobMissing, BlobCorrupt: something that is needed is lost: nothing is collected before that is restored.
    """
    finish_begun(runtime)
    plain = [stored for _, _, stored, head in runtime.reader.stored_forms() if not is_pressed(head)]
    return Kept(
        plan=plan_collection(runtime, retention) if collects else None,
        leftovers=tuple(find_leftovers(runtime.state, runtime.workspace)),
        saved_states=len(surplus_states([Seq(seq) for seq, _ in runtime.reader.saved_digests()])),
        unpressed_blobs=len(plain),
        unpressed_bytes=sum(plain),
    )


def sweep(runtime: Runtime, kept: Kept, *, compacts: bool = True, progress: Progress | None = None) -> Swept:
    """Does what ``look`` found; may be done again after any interruption.

    Raises:
        WorkerBusy: another process is at it.
        BlobMissing, BlobCorrupt, LogUnavailable: as ``collect``.
    """
    lock = FileLock(runtime.workspace.home / "gc.lock")
    if not lock.acquire(blocking=False):
        raise WorkerBusy(f"another process frees room in {runtime.workspace.root}: one is enough")
    try:
        return _sweep(runtime, kept, compacts, progress)
    finally:
        lock.release()
        lock.close()


def _sweep(runtime: Runtime, kept: Kept, compacts: bool, progress: Progress | None) -> Swept:
    leftovers = remove_leftovers(runtime)
    record = collect(runtime, kept.plan.retention) if kept.plan is not None else None
    thinned = thin_states(runtime)
    compacted = None
    if compacts:
        compacted = compact(
            runtime.log, (lambda done, of: progress("compact", done, of, "blobs")) if progress else None
        )
    note = ""
    if record is not None or thinned or (compacted is not None and compacted.blobs):
        try:
            runtime.log.vacuum()
        except LogUnavailable as error:  # what was to go is gone; only the file stays as large as it was
            note = str(error)
    count, size = (record.event.count, record.event.bytes) if record is not None else (0, 0)  # type: ignore[union-attr]
    return Swept(
        event=record.seq if record is not None else None,
        collected=count,
        collected_bytes=size,
        leftovers=tuple(leftovers),
        saved_states=thinned,
        compacted=compacted,
        note=note,
    )
