"""The verdict on one recorded outcome: the same, another, or one that cannot be made again here, and why."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from msgspec import Struct

from instar.engine.environment import differing
from instar.engine.keeping.named_blobs import Parts, digests_of
from instar.fsm.errors import BlobCorrupt, BlobMissing, ConfigError
from instar.fsm.events import AnyEvent, Environment, PayloadErased, Span
from instar.fsm.record import Recorded
from instar.fsm.state import AgentState
from instar.fsm.words import Digest, Seq
from instar.store.blobs import BlobStore
from instar.store.reader import LogReader

from .comparison import Mismatch, mismatches
from .scratch import ScratchBench
from .subject import Subject

Verdict = Literal["same", "differs", "cannot"]

_CODE = frozenset({"engine", "python"})
"""What of an environment can change more than the rounding of a number."""


class Finding(Struct, frozen=True, kw_only=True):
    """What became of one outcome.

    ``cannot`` is no acquittal: it says that nothing was proved, and why. ``environment`` holds what of the recorded
    environment is otherwise here, as name → (recorded, here).
    """

    seq: Seq
    type: str
    verdict: Verdict
    why: str = ""
    mismatches: tuple[Mismatch, ...] = ()
    environment: dict[str, tuple[str, str]] = {}


class Erasures(NamedTuple):
    """What was erased on request or collected, each by the event that says so."""

    events: dict[Seq, Seq]
    blobs: dict[Digest, Seq]
    collected: dict[Digest, Seq]

    @classmethod
    def of(cls, reader: LogReader) -> Erasures:
        """Reads all erasures of a log."""
        found = cls({}, {}, BlobStore(reader.path.with_name("blobs"), reader).collected())
        for record in reader.read(types=[PayloadErased]):
            if isinstance(record.event, PayloadErased):
                found.events[record.event.target] = record.seq
                found.blobs.update(dict.fromkeys(record.event.blobs, record.seq))
        return found

    def told(self, blobs: Iterable[Digest]) -> str:
        """Names blobs that are gone, and what erased them."""
        named = [f"blob {digest[:12]} {self._fate(digest)}" for digest in sorted(blobs)]
        return ", ".join(named[:3]) + (f" and {len(named) - 3} more" if len(named) > 3 else "")

    def _fate(self, digest: Digest) -> str:
        if digest in self.blobs:
            return f"was erased by event {self.blobs[digest]}"
        if digest in self.collected:
            return f"was collected by event {self.collected[digest]}"
        return "is missing"


def examine(bench: ScratchBench, subject: Subject, record: Recorded, state: AgentState, erasures: Erasures) -> Finding:
    """Makes one outcome again and judges what the log holds."""
    kind = type(record.event).__name__
    if record.seq in erasures.events:
        why = f"its payload was erased by event {erasures.events[record.seq]}"
        return Finding(seq=record.seq, type=kind, verdict="cannot", why=why)
    recorded: Environment | None = getattr(record.event, "environment", None)
    bench.tidy()
    bench.set_up(recorded)
    try:
        again = subject.again(bench, record, state)
    except (BlobMissing, BlobCorrupt, ConfigError) as error:
        return _unmade(bench, record, erasures, error)
    except (OSError, MemoryError):
        raise  # of this machine, not of the log
    except Exception as error:
        why = f"what is recorded before it does not lead to any outcome: {type(error).__name__}: {error}"
        return Finding(seq=record.seq, type=kind, verdict="differs", why=why)
    if again is None:
        return Finding(seq=record.seq, type=kind, verdict="differs", why="nothing recorded before it asks for it")
    return _compared(bench, subject, record, state, erasures, again)


def _unmade(bench: ScratchBench, record: Recorded, erasures: Erasures, error: Exception) -> Finding:
    kind = type(record.event).__name__
    if bench.blobs.damaged:
        return Finding(seq=record.seq, type=kind, verdict="differs", why=_damage(bench))
    why = f"it rests on what is gone: {erasures.told(bench.blobs.missing)}" if bench.blobs.missing else str(error)
    return Finding(seq=record.seq, type=kind, verdict="cannot", why=why)


def _compared(
    bench: ScratchBench,
    subject: Subject,
    record: Recorded,
    state: AgentState,
    erasures: Erasures,
    again: AnyEvent,
) -> Finding:
    event, kind = record.event, type(record.event).__name__
    here: Environment | None = getattr(again, "environment", None)
    recorded: Environment | None = getattr(event, "environment", None)
    elsewhere = differing(recorded, here) if recorded and here else {}
    found = mismatches(event, again, subject.leave_out)
    lost = set(bench.blobs.missing)
    _read_outcome(bench, event)
    if bench.blobs.damaged:
        return Finding(
            seq=record.seq,
            type=kind,
            verdict="differs",
            why=_damage(bench),
            mismatches=tuple(found),
            environment=elsewhere,
        )
    if not found:
        gone = bench.blobs.missing - lost
        why = f"made again bit for bit, though {erasures.told(gone)}" if gone else ""
        return Finding(seq=record.seq, type=kind, verdict="same", why=why, environment=elsewhere)
    explained = subject.explain(bench.blobs, event, again, found)
    rounded = not explained.far and all(subject.rounds(one.field) for one in found)
    reason = _excuse(subject, record, state, erasures, lost, again) or _elsewhere(recorded, elsewhere, rounded=rounded)
    parts = [reason, explained.text]
    return Finding(
        seq=record.seq,
        type=kind,
        verdict="cannot" if reason else "differs",
        why="; ".join(part for part in parts if part),
        mismatches=tuple(found),
        environment=elsewhere,
    )


def _excuse(
    subject: Subject, record: Recorded, state: AgentState, erasures: Erasures, lost: set[Digest], again: AnyEvent
) -> str:
    """Names what is gone of that on which the outcome rests, or what the present code cannot know."""
    if lost:
        return f"it rests on what is gone: {erasures.told(lost)}"
    for span in subject.rests_on(record, state):
        target = next((seq for seq in sorted(erasures.events) if _within(seq, span)), None)
        if target is not None:
            return f"it rests on event {target}, whose payload was erased by event {erasures.events[target]}"
    return subject.excuse(record.event, again) or ""


def _within(seq: Seq, span: Span) -> bool:
    return span.first <= seq <= span.last


def _elsewhere(recorded: Environment | None, elsewhere: dict[str, tuple[str, str]], *, rounded: bool) -> str:
    """Says that it was recorded where other bits are to be expected; empty where that explains nothing."""
    if recorded is None:
        return "it was recorded by an Instar that did not note where"
    if elsewhere and (rounded or elsewhere.keys() & _CODE):
        told = ", ".join(f"{name} {was}, here {now}" for name, (was, now) in elsewhere.items())
        return f"it was recorded elsewhere ({told})"
    return ""


def _damage(bench: ScratchBench) -> str:
    named = ", ".join(digest[:12] for digest in sorted(bench.blobs.damaged))
    return f"what is stored as {named} does not hash to its name"


def _read_outcome(bench: ScratchBench, event: AnyEvent) -> None:
    """Reads what is stored of the blobs that the outcome names; what is missing or damaged is noted by the bench."""
    parts = Parts(bench.blobs)
    for kind, digest in digests_of(event):
        try:
            for part in parts.of(kind, digest):
                _read(bench, part)
        except (BlobMissing, BlobCorrupt):
            continue  # noted


def _read(bench: ScratchBench, digest: Digest) -> None:
    try:
        bench.blobs.stored(digest)
    except (BlobMissing, BlobCorrupt):
        return  # noted; the other parts are read all the same
