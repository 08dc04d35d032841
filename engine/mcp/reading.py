"""The tools that read: each calls the verb of its name, and none records or changes anything."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from msgspec import Meta, field

from .tool import POSITION_MAX, Names, Position, Reference, Text, Tool

Count = Annotated[int, Meta(ge=1, le=200)]
Skip = Annotated[int, Meta(ge=0, le=1_000_000_000)]
Named = Annotated[
    Reference, Meta(description="A seq, latest, latest~N, snapshot:NAME, checkpoint:PREFIX, last-good, an ISO time.")
]
Derived = Annotated[
    Reference,
    Meta(
        description="Any reference to an event; or checkpoint:PREFIX, mutation:SEQ, memory:SEQ.ITEM, "
        "dataset:PREFIX[#ROW]."
    ),
]


class Status(Tool):
    """Say where machine and agent stand: state, head of the log, what is owed and what waits, tree, checkpoint."""

    def call(self, root: Path) -> None:
        """Calls ``instar status``."""
        from instar.engine.cli import status

        status.command(root, json=True)


class Log(Tool):
    """List events, oldest first: the latest ones, or those before or after a position; or all versions of one file."""

    count: Annotated[Count, Meta(description="How many events.")] = 30
    type: Annotated[Names | None, Meta(description="Only events of these types, such as ChangeObserved.")] = None
    before: Annotated[
        Position | None, Meta(description="Only events before this one, the latest of them: to page back.")
    ] = None
    after: Annotated[
        Annotated[int, Meta(ge=0, le=POSITION_MAX)] | None,
        Meta(description="Only events after this one, the first of them: to page on, or to see what is new."),
    ] = None
    path: Annotated[
        Annotated[str, Meta(max_length=4096)] | None,
        Meta(description="All versions of this file of the agent, in place of events; goes with no other argument."),
    ] = None

    def call(self, root: Path) -> None:
        """Calls ``instar log``."""
        from instar.engine.cli import log
        from instar.fsm.errors import ConfigError

        if self.path is None:
            log.events(root, self.count, self.type or (), before=self.before, after=self.after, as_json=True)
            return
        if self.type or self.before is not None or self.after is not None:
            raise ConfigError("a file's versions take no type, before or after: leave out the path, or these")
        log.versions(self.path, root, as_json=True)


class Show(Tool):
    """Show one event: its facts, its cause, its hashes."""

    reference: Named

    def call(self, root: Path) -> None:
        """Calls ``instar show``."""
        from instar.engine.cli import show

        show.command(str(self.reference), root, json=True)


class Diff(Tool):
    """Show what differs between two points, or one and the folder now: code, checkpoint, memory, rewards, policy."""

    a: Named
    b: Annotated[Reference | None, Meta(description="Another reference; by default the folder as it stands.")] = None
    paths: Annotated[Names, Meta(description="Only these files or folders of the agent.")] = field(default_factory=list)
    patch: Annotated[
        bool, Meta(description="Give the code's difference as a patch too; bytes of no UTF-8 escaped.")
    ] = False

    def call(self, root: Path) -> None:
        """Calls ``instar diff``."""
        from instar.engine.cli import diff
        from instar.engine.references import is_reference
        from instar.fsm.errors import ConfigError

        other = [] if self.b is None else [str(self.b)]
        if other and not is_reference(other[0]):
            raise ConfigError(f"{other[0]!r} is no reference: files and folders go into paths")
        if not other and self.paths and is_reference(self.paths[0]):
            raise ConfigError(f"{self.paths[0]!r} is a reference: it goes into b. A file of that name is ./NAME.")
        diff.command(str(self.a), [*other, *self.paths], workspace=root, json=not self.patch)


class Why(Tool):
    """Show what something rests on, back to the signals."""

    reference: Derived

    def call(self, root: Path) -> None:
        """Calls ``instar why``."""
        from instar.engine.cli import why

        why.command(str(self.reference), workspace=root, json=True)


class Taint(Tool):
    """Show everything that was derived from something, and whether what is active now rests on it."""

    reference: Derived

    def call(self, root: Path) -> None:
        """Calls ``instar taint``."""
        from instar.engine.cli import taint

        taint.command(str(self.reference), workspace=root, json=True)


class Search(Tool):
    """Search the vector memory for what is nearest to a text. Quick while a worker runs; else it loads the model."""

    apart: ClassVar[bool] = True

    text: Annotated[Text, Meta(description="What to look for, in plain words.")]
    k: Annotated[Annotated[int, Meta(ge=1, le=200)] | None, Meta(description="How many rows; 10 by default.")] = None
    kind: Annotated[Names | None, Meta(description="Only these kinds: feedback, failure, code_diff, unit, …")] = None
    task: Annotated[Names | None, Meta(description="Only rows of these task types.")] = None
    unit: Annotated[Names | None, Meta(description="Only rows of these units, FILE::NAME; FILE* for a file.")] = None
    since: Annotated[str | None, Meta(description="Only rows taken into memory at this ISO time or later.")] = None
    until: Annotated[str | None, Meta(description="Only rows taken into memory at this ISO time or earlier.")] = None

    def call(self, root: Path) -> None:
        """Calls ``instar search``."""
        from instar.engine.cli import search

        search.command(
            self.text,
            self.k,
            self.kind,
            self.task,
            self.unit,
            self.since,
            self.until,
            answer=isinstance(self, Answer),
            workspace=root,
            json=True,
        )


class Answer(Search):
    """Say what the rows of memory nearest to a question know to be right, and how sure that is."""

    k: Annotated[Annotated[int, Meta(ge=1, le=1000)] | None, Meta(description="How many rows vote; 64 by default.")] = (
        None
    )


class Lineage(Tool):
    """List every checkpoint: where it came from, what it gained, and whether it was promoted."""

    def call(self, root: Path) -> None:
        """Calls ``instar lineage``."""
        from instar.engine.cli import lineage

        lineage.command(root, json=True)


class Dataset(Tool):
    """Show what was learned from: a data set counted, or its rows, what each rests on, and what was kept out."""

    what: Annotated[Literal["stats", "show"], Meta(description="stats: what it holds, counted; show: its rows.")] = (
        "stats"
    )
    reference: Annotated[
        Reference, Meta(description="latest, dataset:PREFIX, or any reference: the last data set up to there.")
    ] = "latest"
    row: Annotated[Position | None, Meta(description="With show: this row alone.")] = None
    split: Annotated[
        Literal["train", "validation", "heldout", "memory"] | None,
        Meta(description="With show: only rows of this split."),
    ] = None
    count: Annotated[Count, Meta(description="With show: how many rows.")] = 30
    skip: Annotated[Skip, Meta(description="With show: how many rows to pass over first: to page on.")] = 0

    def call(self, root: Path) -> None:
        """Calls ``instar dataset``."""
        from instar.engine.cli import dataset

        reference = str(self.reference)
        dataset.command(self.what, reference, self.row, self.split, self.count, self.skip, root, json=True)


class Verify(Tool):
    """Check everything that is stored: the chain, the transitions, state snapshots, every blob that an event needs."""

    apart: ClassVar[bool] = True

    blobs: Annotated[bool, Meta(description="Read every blob that an event needs.")] = True

    def call(self, root: Path) -> None:
        """Calls ``instar verify``."""
        from instar.engine.cli import verify

        verify.command(blobs=self.blobs, workspace=root, json=True)


class Replay(Tool):
    """Fold the log again and compare every row, transition, digest and decision with it; or, with what_if, list the
    decisions that would have been others under another policy. Runs no effect.
    """

    apart: ClassVar[bool] = True

    level: Annotated[
        Literal["chain", "decode", "transitions", "digests", "decisions"] | None,
        Meta(description="How deep to look, by default to decisions; each level includes those before it."),
    ] = None
    to: Annotated[Reference | None, Meta(description="Fold up to this reference; the head by default.")] = None
    first: Annotated[
        Reference | None, Meta(description="Compare from this reference on; what lies before is taken as it is.")
    ] = None
    what_if: Annotated[
        Names | None, Meta(description="KEY=VALUE, such as drift.threshold=0.6; keys as in [policy] of instar.toml.")
    ] = None

    def call(self, root: Path) -> None:
        """Calls ``instar replay``."""
        from instar.engine.cli import replay

        to, first = (None if one is None else str(one) for one in (self.to, self.first))
        replay.command(level=self.level, to=to, first=first, what_if=self.what_if, workspace=root, json=True)


READING: tuple[type[Tool], ...] = (
    Status,
    Log,
    Show,
    Diff,
    Why,
    Taint,
    Search,
    Answer,
    Lineage,
    Dataset,
    Verify,
    Replay,
)
