"""Takes blobs out of the store that nothing which is to be kept needs. The events themselves are never touched.

A plan is made from the log and what is stored; carrying it out appends the event ``BlobsCollected``, in whose
transaction the blobs go.
"""

from __future__ import annotations

from msgspec import Struct

from instar.engine.runtime import Runtime
from instar.engine.status import worker_runs
from instar.engine.workspace import Workspace
from instar.fsm.decisions import point_of
from instar.fsm.events import BlobsCollected, OutcomeRewarded, SnapshotTaken, Span
from instar.fsm.record import Recorded
from instar.fsm.retention import Point, Retention, cutoff_us, kept_points
from instar.fsm.state import AgentState
from instar.fsm.words import Digest, Seq
from instar.store.blobs import BlobStore
from instar.store.collected import list_digests
from instar.store.failpoints import failpoint
from instar.store.read_ahead import ReadAhead
from instar.store.reader import LogReader

from .kinds import NAMELESS, Kinds, Size, stored_bytes
from .named_blobs import erased_blobs
from .needs import Needs, event_of, open_since
from .reach import Reach, lost_between

YOUNG_S = 3600
"""A file that no event names may be of work in progress while a worker runs, if it is younger than that."""


class CollectionPlan(Struct, frozen=True, kw_only=True):
    """What a collection would take away: nothing is gone yet."""

    head: Seq
    retention: Retention
    cutoff_us: int
    kept_from: Seq
    points: tuple[Seq, ...]
    doomed: tuple[Digest, ...]
    going: dict[str, Size]
    """By kind."""
    staying: dict[str, Size]
    unreachable: tuple[Span, ...]
    """The events to which one can return now, and no more then."""

    @property
    def bytes(self) -> int:
        """What the doomed blobs take in the store."""
        return sum(size.bytes for size in self.going.values())

    @property
    def sizes(self) -> dict[str, Size]:
        """What all blobs take now, by kind."""
        found = dict(self.staying)
        for kind, size in self.going.items():
            stays = found.get(kind, Size())
            found[kind] = Size(stays.count + size.count, stays.bytes + size.bytes)
        return found


def points_of(reader: LogReader) -> list[Point]:
    """Lists every snapshot and promotion of a log, in its order."""
    records = reader.read(types=[SnapshotTaken, OutcomeRewarded])
    found = (point_of(record.seq, record.event) for record in records)
    return [point for point in found if point is not None]


def plan_collection(runtime: Runtime, retention: Retention | None = None) -> CollectionPlan:
    """Finds out what no kept event needs.

    Args:
        runtime: the workspace.
        retention: what to keep; as the settings say by default.

    Raises:
        BlobMissing, BlobCorrupt: something that is needed is lost, so that nobody can tell what else is: nothing should
            be collected before that is restored.
    """
    now_us = runtime.log.now_us()
    return plan_of(runtime.reader, runtime.blobs, retention or runtime.settings.retention, now_us, runtime.workspace)


def plan_of(
    reader: LogReader,
    blobs: BlobStore,
    retention: Retention,
    now_us: int,
    workspace: Workspace,
    *,
    with_unreachable: bool = True,
) -> CollectionPlan:
    """As ``plan_collection``, for whoever only reads.

    Args:
        reader: the log.
        blobs: its store.
        retention: what to keep.
        now_us: the time.
        workspace: whose log it is.
        with_unreachable: say to which events there would be no return, for which the log is read once more.
    """
    state = reader.state_at()
    cutoff = cutoff_us(retention, now_us)
    kept_from = Seq(reader.at_time(cutoff) + 1)
    points = kept_points(retention, kept_from, points_of(reader))
    needs, kinds = _read_log(reader, blobs, state, min(kept_from, open_since(state)), points)
    stored = stored_bytes(reader, blobs)
    busy = worker_runs(workspace)
    doomed = sorted(
        digest
        for digest in stored
        if digest not in needs.digests and not (busy and kinds.of(digest) == NAMELESS and _is_young(blobs, digest))
    )
    left = stored.keys() - set(doomed)
    ahead = ReadAhead(blobs)
    before, after = Reach(ahead, stored.__contains__), Reach(ahead, left.__contains__)
    last = Seq(min(kept_from - 1, state.head))
    return CollectionPlan(
        head=state.head,
        retention=retention,
        cutoff_us=cutoff,
        kept_from=kept_from,
        points=points,
        doomed=tuple(doomed),
        going=kinds.sizes(stored, doomed),
        staying=kinds.sizes(stored, left),
        unreachable=lost_between(reader, last, before, after, ahead) if doomed and with_unreachable else (),
    )


def _read_log(
    reader: LogReader, blobs: BlobStore, state: AgentState, kept_from: Seq, points: tuple[Seq, ...]
) -> tuple[Needs, Kinds]:
    """Collects what must stay: for the kept events, for the states after them, and for the collections before.

    What blobs are is told in the same pass, so that each event and each node of a tree is read once.
    """
    head = state.head
    ahead = ReadAhead(blobs)
    needs, kinds = Needs(ahead, erased_blobs(reader) | blobs.collected().keys()), Kinds(ahead)
    for rows in reader.chunks():
        events = [event_of(reader, row) for row in rows]
        kinds.take_all(ahead, events)
        for row, event in zip(rows, events, strict=True):
            if kept_from <= row[0] <= head:
                needs.event(event)
    for seq in points:
        needs.event(reader.get(seq).event)
    for record in reader.read(1, head, [BlobsCollected]):
        needs.event(record.event)
    needs.state(state)
    needs.undo(state, reader)
    for then in reader.states_at({*points, min(kept_from, head)}):
        needs.state(then)
    needs.memory(reader)
    return needs, kinds


def _is_young(blobs: BlobStore, digest: Digest) -> bool:
    age_s = blobs.file_age_s(digest)
    return age_s is not None and age_s < YOUNG_S


def collect(runtime: Runtime, retention: Retention | None = None) -> Recorded | None:
    """Plans anew and carries the plan out; nobody scans or changes the agent's files meanwhile.

    What others append between the plan and the collection is taken into account under the log's lock.

    Returns:
        The event; None where there is nothing to collect.

    Raises:
        BlobMissing, BlobCorrupt: as ``plan_collection``; nothing is gone.
        LogUnavailable: the disk is full or read-only; nothing is gone.
    """
    with runtime.files.held():
        plan = plan_collection(runtime, retention)
        if not plan.doomed:
            return None
        failpoint("gc.planned")
        return runtime.log.collect(lambda state: _decided(runtime, plan, state))


def _decided(
    runtime: Runtime, plan: CollectionPlan, state: AgentState
) -> tuple[BlobsCollected, tuple[Digest, ...]] | None:
    """Spares what events that were recorded since the plan need."""
    doomed, points = plan.doomed, plan.points
    if state.head != plan.head:
        reader = runtime.reader
        since = Needs(runtime.blobs, ())
        for record in reader.read(plan.head + 1, state.head):
            since.event(record.event)
        since.state(state)
        doomed = tuple(digest for digest in doomed if digest not in since.digests)
        points = kept_points(plan.retention, plan.kept_from, points_of(reader))
    if not doomed:
        return None
    stored = stored_bytes(runtime.reader, runtime.blobs)
    event = BlobsCollected(
        retention=plan.retention,
        cutoff_us=plan.cutoff_us,
        kept_from=plan.kept_from,
        points=points,
        blobs=runtime.blobs.put(list_digests(doomed)),
        count=len(doomed),
        bytes=sum(stored.get(digest, 0) for digest in doomed),
    )
    return event, doomed
