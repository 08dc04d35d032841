"""What derived events made: checkpoints, rows of data sets and of memory, vectors, files; and what of it is active."""

from __future__ import annotations

from msgspec import Struct

from instar.fsm.events import (
    ChangeObserved,
    CheckpointTrained,
    DatasetGenerated,
    EmbeddedItem,
    MemoryReembedded,
    OutcomeRewarded,
    SignalEmbedded,
)
from instar.fsm.record import Recorded
from instar.fsm.state import AgentState
from instar.fsm.words import Digest, Seq

from .graph import TEACHING, Graph, RowRefs
from .names import Kind
from .nodes import holds_difference
from .subject import Subject


class Learned(Struct, kw_only=True):
    """A checkpoint that was derived. ``kind`` is content where it learned from the subject."""

    checkpoint: Digest
    seq: Seq
    kind: str
    verdict: str = "not judged"
    active: bool = False


class Rows(Struct, frozen=True, kw_only=True):
    """Rows (from 1) of a data set that name the subject, or what was made of it."""

    dataset: Digest
    seq: Seq
    teaches: tuple[int, ...]
    judges: tuple[int, ...]


class Remembered(Struct, frozen=True, kw_only=True):
    """Rows of memory: items of the SignalEmbedded at ``seq`` that stand for the subject, or for what was made of it."""

    seq: Seq
    items: tuple[int, ...]
    live: bool
    """They are searched now: not rolled back."""


class Space(Struct, kw_only=True):
    """Vectors that a checkpoint made which learned from the subject: by which events, and how many."""

    checkpoint: Digest
    events: list[Seq]
    rows: int = 0


class Written(Struct, frozen=True, kw_only=True):
    """A file that the subject, or changes made of it, wrote; ``last`` is the latest change of its path by anyone."""

    path: str
    changes: tuple[Seq, ...]
    last: Seq

    @property
    def stands(self) -> bool:
        """Says whether the file is still as the last of them left it."""
        return self.last == self.changes[-1]


class Active(Struct, frozen=True, kw_only=True):
    """How what is active now rests on the subject: it is the subject, by its content, occasion or background, or no."""

    checkpoint: Digest | None
    checkpoint_rests: str | None
    plan: Seq | None
    plan_rests: str | None
    live_rows: int
    files: tuple[str, ...]


class Derived:
    """Gathers what events made that were derived from a subject, and what the subject itself made.

    Args:
        graph: the whole log.
        subject: what is asked about.
        ranks: the derived events, and how they rest on it.
        state: the state at the head.
    """

    def __init__(self, graph: Graph, subject: Subject, ranks: dict[Seq, Kind], state: AgentState) -> None:
        self.checkpoints: dict[Seq, Learned] = {}
        self.datasets: list[Rows] = []
        self.memory: list[Remembered] = []
        self.spaces: dict[Digest, Space] = {}
        self._graph, self._subject, self._ranks, self._state = graph, subject, ranks, state
        self._starts = frozenset(subject.starts)
        self._changes: dict[str, list[Seq]] = {}
        self._row_signal: Seq | None = None
        """The signal of the one row of memory that is asked about."""

    def note(self, record: Recorded) -> None:
        """Takes one derived event, or one of the subject's own, in the order of the log."""
        seq = record.seq
        match record.event:
            case CheckpointTrained(checkpoint=checkpoint) if seq in self._ranks:
                active = checkpoint == self._state.checkpoint
                kind = self._ranks[seq].name.lower()
                self.checkpoints[seq] = Learned(checkpoint=checkpoint, seq=seq, kind=kind, active=active)
            case OutcomeRewarded(verdict=verdict) if record.cause in self.checkpoints:
                self.checkpoints[record.cause].verdict = verdict
            case DatasetGenerated(dataset=dataset) if seq in self._ranks:
                self._taught(seq, dataset)
            case SignalEmbedded() as embedded:
                self._remembered(seq, embedded)
            case MemoryReembedded(space=space, rows=rows):
                self._moved(seq, space, len(rows))
            case ChangeObserved(path=path) if self._means(seq):
                self._changes.setdefault(path, []).append(seq)
            case _:
                pass

    def _means(self, seq: Seq) -> bool:
        """Says whether an event is the subject's own, or was made of it."""
        return seq in self._starts or self._ranks.get(seq) == Kind.CONTENT

    def _taught(self, seq: Seq, dataset: Digest) -> None:
        touched = [(n, row) for n, row in enumerate(self._graph.rows(seq), 1) if self._touches(row)]
        if touched:
            teaches = tuple(n for n, row in touched if row.split in TEACHING)
            judges = tuple(n for n, row in touched if row.split not in TEACHING)
            self.datasets.append(Rows(dataset=dataset, seq=seq, teaches=teaches, judges=judges))

    def _touches(self, row: RowRefs) -> bool:
        if self._row_signal is not None:
            return self._subject.seq in row.events and self._row_signal in row.events
        for seq in row.events:
            before = self._graph.links.before.get(seq)
            if seq in self._starts or (before is not None and self._means(before)):
                return True
            # That a row failed to be embedded in a derived event makes it no row of the subject.
            if self._means(seq) and self._graph.type_of(seq) != "SignalEmbedded":
                return True
        return False

    def _remembered(self, seq: Seq, embedded: SignalEmbedded) -> None:
        if self._subject.item is not None and seq in self._starts:
            self._row_signal = embedded.items[self._subject.item].seq
            return
        whole = seq in self._starts
        items = [(n, item) for n, item in enumerate(embedded.items) if whole or self._stands_for(item)]
        if items and self._row_signal is None:
            live = any(span.first <= seq <= span.last for span in self._state.memory)
            has_vector = any(item.row is not None for _, item in items)
            self.memory.append(Remembered(seq=seq, items=tuple(n for n, _ in items), live=live and has_vector))
        self._moved(seq, embedded.space, sum(item.row is not None for item in embedded.items))

    def _stands_for(self, item: EmbeddedItem) -> bool:
        before = self._graph.links.before.get(item.seq) if holds_difference(item) else None
        return self._means(item.seq) or (before is not None and self._means(before))

    def _moved(self, seq: Seq, checkpoint: Digest, rows: int) -> None:
        """Counts vectors that were made by a checkpoint which is the subject or learned from it."""
        made = self._graph.links.made.get(checkpoint)
        if made is None or not (self._is_checkpoint(made) or self._ranks.get(made) == Kind.CONTENT):
            return
        space = self.spaces.setdefault(checkpoint, Space(checkpoint=checkpoint, events=[]))
        space.events.append(seq)
        space.rows += rows

    def _is_checkpoint(self, seq: Seq) -> bool:
        return seq in self._starts and self._subject.kind in ("event", "checkpoint")

    def files(self) -> list[Written]:
        """Lists the files that derived changes wrote, by path."""
        last = self._graph.links.files
        return [
            Written(path=path, changes=tuple(changes), last=last[path][0])
            for path, changes in sorted(self._changes.items())
        ]

    def active(self) -> Active:
        """Says how what is active now rests on the subject."""
        checkpoint, plan = self._state.checkpoint, self._graph.latest("PlanChosen")
        made = self._graph.links.made.get(checkpoint) if checkpoint else None
        return Active(
            checkpoint=checkpoint,
            checkpoint_rests=self._rests(made) if made else None,
            plan=plan,
            plan_rests=self._rests(plan) if plan else None,
            live_rows=sum(len(rows.items) for rows in self.memory if rows.live),
            files=tuple(file.path for file in self.files() if file.stands),
        )

    def _rests(self, seq: Seq) -> str:
        if seq in self._starts and self._subject.kind in ("event", "checkpoint"):
            return "subject"
        return self._ranks[seq].name.lower() if seq in self._ranks else "no"
