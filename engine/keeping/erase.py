"""Erases what an event says, and every copy that was derived from it, on lawful request.

An erasure is an event of its own. It keeps what is left of the erased one, so that every fold gives the same as before,
and the chain verifies, since it runs over the payload's hash. Weights cannot be erased: the checkpoints that learned
from the event are named.
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from instar.engine.audit import AUDITED
from instar.engine.runtime import Runtime
from instar.fsm.codec import decode_event
from instar.fsm.erasure import remains_of
from instar.fsm.errors import ConfigError, EffectFailedError, PositionConflict, RollbackRefused
from instar.fsm.events import (
    AnyEvent,
    ChangeObserved,
    DatasetGenerated,
    MutationAccepted,
    MutationRejected,
    PayloadErased,
    TaskQueued,
)
from instar.fsm.evolve import evolve
from instar.fsm.record import Recorded
from instar.fsm.words import ORIGIN, Digest, Seq
from instar.store.reader import LogReader
from instar.store.trees import read_tree

from .erasure_copies import DERIVED, Draft, parted_blobs, take_derived
from .named_blobs import erased_blobs
from .read_lines import lines_gone
from .tried_patches import tasks_quoting

ATTEMPTS = 8
"""How often an erasure is planned anew because somebody appended meanwhile."""
_VERDICTS = (MutationAccepted, MutationRejected)


class ErasurePlan(Struct, frozen=True, kw_only=True):
    """What an erasure would take away: nothing is gone yet."""

    target: Seq
    type: str
    events: tuple[Seq, ...]
    """Events that hold the text, the target first; the payload of each is erased."""
    blobs: tuple[Digest, ...]
    """Blobs that go with them."""
    kept: tuple[Digest, ...]
    """Blobs that hold it too, but that other events need: they stay."""
    learned: tuple[Digest, ...]
    """Checkpoints that learned from it. Weights cannot be erased."""
    erasures: tuple[PayloadErased, ...]
    head: Seq = ORIGIN
    """The last event that was looked at: one that came since may hold a copy."""
    asked: tuple[Seq, str | None] = (ORIGIN, None)
    """The event and the path that were asked for."""


def plan_erasure(runtime: Runtime, seq: Seq, reason: str, path: str | None = None) -> ErasurePlan:
    """Finds everything that holds what an event says, or what a file held at it.

    Args:
        runtime: the workspace.
        seq: a signal: feedback, a task, a skipped input, a failure, or a change whose new content is to go; or a data
            set, of which goes what it read of log files that do not tell it any more.
        reason: on whose request and why; it is recorded.
        path: a file, whose content at that event is to go, whichever event brought it.

    Raises:
        ConfigError: the event holds nothing to erase, or was erased before; no file stood at the path.
        RollbackRefused: the content still stands in the workspace; the task is still to be worked.
    """
    if not reason.strip():
        raise ConfigError("an erasure says on whose request it is made, and why: give --reason")
    head = runtime.state.head
    draft = Draft(runtime, reason)
    record = runtime.reader.get(seq) if path is None else _of_path(draft, seq, path)
    if path is None:
        _check(draft, record)
    _take(draft, record)
    for derived in runtime.reader.read(1 if draft.lines else min(draft.erasures) + 1, head, types=DERIVED):
        take_derived(draft, derived)
    gone, kept = parted_blobs(draft)
    erasures = list(draft.erasures.values())
    erasures[0] = replace(erasures[0], blobs=gone)
    return ErasurePlan(
        target=record.seq,
        type=type(record.event).__name__,
        events=tuple(draft.erasures),
        blobs=gone,
        kept=kept,
        learned=tuple(draft.learned),
        erasures=tuple(erasures),
        head=head,
        asked=(seq, path),
    )


def erase(runtime: Runtime, plan: ErasurePlan) -> list[Recorded]:
    """Carries a plan out: one transaction records the erasures and takes payloads and blobs away.

    Where somebody appended since the plan was made, it is made anew: what came may hold a copy.

    Raises:
        EffectFailedError: what remains would not fold to the same state; nothing was erased.
        PositionConflict: others append without a pause; nothing was erased.
        LogUnavailable: the disk is full or read-only; nothing was erased.
    """
    for attempt in range(ATTEMPTS):
        for erasure in plan.erasures:
            _check_fold(runtime.reader, erasure)
        _drop_copies(runtime, plan)
        try:
            records = runtime.log.erase(plan.erasures, expect=plan.head)
        except PositionConflict:
            if attempt == ATTEMPTS - 1:
                raise
            seq, path = plan.asked
            plan = plan_erasure(runtime, seq, plan.erasures[0].reason, path)
            continue
        break
    _drop_copies(runtime, plan)  # once more: another process may have written them meanwhile
    return records


def _drop_copies(runtime: Runtime, plan: ErasurePlan) -> None:
    """Removes files that are made again from the log, with what is left in it."""
    runtime.memory.prune(())
    kinds = {type(runtime.reader.get(seq).event) for seq in plan.events}
    if DatasetGenerated in kinds:
        runtime.workspace.dataset.unlink(missing_ok=True)
    if not kinds.isdisjoint(AUDITED):
        runtime.workspace.audit_log.unlink(missing_ok=True)


def _content(event: AnyEvent) -> Digest | None:
    """Names the content that a change brought, or took away."""
    return (event.after or event.before) if isinstance(event, ChangeObserved) else None


def _of_path(draft: Draft, seq: Seq, path: str) -> Recorded:
    """Finds the content of a file at an event, and the first event that can be erased for it.

    A file that stood there from the first event on, or that a program wrote into a restore, was brought by no change.
    """
    reader, blobs = draft.runtime.reader, draft.runtime.blobs
    record = reader.get(seq)
    displaced = {one.path: one.blob for one in getattr(record.event, "displaced", ())}
    tree = reader.state_at(seq).tree
    files = read_tree(blobs, tree).files if tree else {}
    if path not in displaced and path not in files:
        raise ConfigError(f"no file stood at {path} at event {seq}: `instar log {path}` lists its versions")
    draft.content = displaced[path] if path in displaced else files[path].blob
    if draft.content in erased_blobs(reader):
        raise ConfigError(f"what {path} held at event {seq} was erased already")
    _check_standing(draft, f"{path} held at event {seq}")
    changes = _changes_of(reader, draft.content)
    if not changes and path not in displaced:
        raise ConfigError(
            f"what {path} held at event {seq} was taken away by no change that the log knows: it is left out of the "
            "watch now. Have it watched again, let `instar run --once` see it, delete it, let that be seen, then erase"
        )
    return changes[0] if changes else record


def _changes_of(reader: LogReader, content: Digest) -> list[Recorded]:
    """Gives every change to or from some content."""
    return [
        one
        for one in reader.read(types=[ChangeObserved])
        if isinstance(one.event, ChangeObserved) and content in (one.event.before, one.event.after)
    ]


def _check_standing(draft: Draft, what: str) -> None:
    tree = draft.runtime.state.tree
    files = read_tree(draft.runtime.blobs, tree).files if tree else {}
    standing = [path for path, entry in files.items() if entry.blob == draft.content]
    if standing:
        raise RollbackRefused(
            f"{standing[0]} still has the content that {what}: change or delete the file, let `instar run --once` see "
            "it, then erase"
        )


def _check(draft: Draft, record: Recorded) -> None:
    runtime, event = draft.runtime, record.event
    erased = runtime.reader.erased(record.seq)
    # A change that was erased for what it took away still has what it brought, and so on.
    content = event.logs if isinstance(event, DatasetGenerated) else _content(event)
    if erased is not None and (content is None or not runtime.blobs.has(content)):
        raise ConfigError(f"the payload of event {record.seq} was erased by event {erased} already")
    match event:
        case ChangeObserved():
            draft.content = content
            _check_standing(draft, f"event {record.seq} brought")
        case TaskQueued(task="mutate"):
            verdicts = (one.event for one in runtime.reader.read(record.seq, types=_VERDICTS))
            if not any(isinstance(one, _VERDICTS) and one.task == record.seq for one in verdicts):
                raise RollbackRefused(
                    f"the patch of event {record.seq} was not tried yet: let `instar run --once` do that, then erase"
                )
        case DatasetGenerated(logs=logs) if logs is not None:
            draft.lines = lines_gone(runtime.workspace, runtime.blobs, record, event)
        case _ if isinstance(event, DERIVED) or remains_of(event) == event:
            raise ConfigError(
                f"event {record.seq} ({type(event).__name__}) holds no text of its own: erase the signal that it rests "
                f"on (`instar why {record.seq}`), or give the path of a file whose content at that event is to go"
            )


def _take(draft: Draft, record: Recorded) -> None:
    """Takes what was asked for: the event, and what has the same content."""
    if draft.content is not None:
        reader = draft.runtime.reader
        changes = _changes_of(reader, draft.content)
        for one in dict.fromkeys((record.seq, *(change.seq for change in changes))):
            draft.add(reader.get(one), reader.get(one).event, draft.content)
        draft.signals.update(change.seq for change in changes)
        paths = {change.event.path for change in changes if isinstance(change.event, ChangeObserved)}
        for task in tasks_quoting(reader, draft.runtime.blobs, draft.content, paths):
            draft.add_task(reader.get(task))
    elif draft.lines:
        take_derived(draft, record)
    elif isinstance(record.event, TaskQueued):
        draft.signals.add(record.seq)
        draft.add_task(record)
    else:
        draft.signals.add(record.seq)
        draft.add(record, remains_of(record.event), getattr(record.event, "log", None))


def _check_fold(reader: LogReader, erasure: PayloadErased) -> None:
    record = reader.get(erasure.target)
    remains = decode_event(type(record.event).__name__, record.event.VERSION, erasure.remains.encode())
    before = reader.state_at(Seq(record.seq - 1))
    folded = evolve(before, remains, seq=record.seq, cause=record.cause, at_us=record.recorded_at_us)
    if folded != reader.state_at(record.seq):
        raise EffectFailedError(
            f"what would remain of event {record.seq} ({type(record.event).__name__}) folds to another state: nothing "
            "was erased. Please report it."
        )
