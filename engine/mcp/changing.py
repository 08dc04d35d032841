"""The tools that record or change something: offered only with ``--allow-changes``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from msgspec import Meta, field

from .reading import Named
from .tool import Names, Text, Tool

Confirm = Annotated[bool, Meta(description="Carry it out; by default only the plan is given, and nothing is done.")]
Share = Annotated[float, Meta(ge=0.0, le=1.0)]


class Feedback(Tool):
    """Record an outcome of the agent's work; a wrong one with a known right answer is something to learn from."""

    changes: ClassVar[bool] = True
    repeatable: ClassVar[bool] = False

    task_type: Annotated[str, Meta(min_length=1, max_length=200, description="What kind of task it was.")]
    input: Annotated[Text, Meta(min_length=1, description="What was asked.")]
    output: Annotated[Text | None, Meta(description="What the agent gave.")] = None
    reference: Annotated[Text | None, Meta(description="What would have been right.")] = None
    outcome: Annotated[Literal["pass", "fail", "skip"] | None, Meta(description="By default pass.")] = None
    confidence: Annotated[Share | None, Meta(description="How sure the agent was, 0..1.")] = None
    reward: Annotated[Share | None, Meta(description="A score of your own, 0..1.")] = None
    group: Annotated[Text | None, Meta(description="What the held-out split must not cut in two.")] = None

    def call(self, root: Path) -> None:
        """Calls ``instar feedback``."""
        from instar.engine.cli import feedback

        feedback.command(
            None,
            self.task_type,
            self.input,
            self.output,
            self.reference,
            self.outcome,
            self.confidence,
            self.reward,
            self.group,
            root,
            json=True,
        )


class Train(Tool):
    """Ask for a retrain and run it, with all that waits, unless a worker does: minutes. The gate decides whether the
    checkpoint becomes active; exit_code 5 says that it did not, 1 that the training failed.
    """

    changes: ClassVar[bool] = True
    destroys: ClassVar[bool] = True
    repeatable: ClassVar[bool] = False
    apart: ClassVar[bool] = True
    reports: ClassVar[bool] = True

    note: Annotated[Text, Meta(description="Why, for whoever reads the log later.")] = ""
    recipe: Annotated[
        dict[str, float | int | str], Meta(description="Parts of the recipe that are to be otherwise than configured.")
    ] = field(default_factory=dict)
    queue: Annotated[bool, Meta(description="Only queue the task; a worker takes it up.")] = False

    def call(self, root: Path) -> None:
        """Calls ``instar train``."""
        from instar.engine.cli import train

        train.order({"note": self.note, "recipe": self.recipe}, root, queue=self.queue, as_json=True)


class Mutate(Tool):
    """Try a patch in a copy behind its gate, and apply it to the workspace if it passes, unless a worker does it. The
    gate runs in the strongest sandbox of the machine, and not at all where there is none.
    """

    changes: ClassVar[bool] = True
    destroys: ClassVar[bool] = True
    repeatable: ClassVar[bool] = False
    outside: ClassVar[bool] = True
    apart: ClassVar[bool] = True
    reports: ClassVar[bool] = True

    patch: Annotated[
        Annotated[str, Meta(min_length=1, max_length=1_000_000)] | None,
        Meta(description="A unified diff: its text. Give this, or repair."),
    ] = None
    repair: Annotated[
        bool, Meta(description="Have a patch found with which the gate passes; as the files are it has to fail.")
    ] = False
    paths: Annotated[Names, Meta(description="Of a repair: what may be changed; the monitored files by default.")] = (
        field(default_factory=list)
    )
    gate: Annotated[
        Text | None,
        Meta(description="The command that must pass in the copy, such as 'python -m pytest -q'; no shell runs it."),
    ] = None
    queue: Annotated[bool, Meta(description="Only queue the task; a worker takes it up.")] = False

    def call(self, root: Path) -> None:
        """Calls ``instar mutate``."""
        from instar.engine.cli import mutate

        task = {"type": "mutate", "patch": self.patch, "gate": self.gate, "repair": self.repair, "paths": self.paths}
        mutate.try_task(task, root, queue=self.queue, as_json=True)


class Snapshot(Tool):
    """Store what stands there now, and name the point: a rollback to snapshot:NAME returns to it."""

    changes: ClassVar[bool] = True
    repeatable: ClassVar[bool] = False

    name: Annotated[str, Meta(min_length=1, max_length=200, description="Letters, digits, dots, dashes, underscores.")]
    full: Annotated[bool, Meta(description="Read every file, whatever its times say.")] = False

    def call(self, root: Path) -> None:
        """Calls ``instar snapshot``."""
        from instar.engine.cli import snapshot

        snapshot.command(self.name, self.full, root, json=True)


class Rollback(Tool):
    """Put code, checkpoint and memory back, byte for byte, to an event; undo takes it back. By default the plan alone
    is given, with its digest.
    """

    changes: ClassVar[bool] = True
    destroys: ClassVar[bool] = True
    repeatable: ClassVar[bool] = False

    reference: Named
    only: Annotated[
        list[Literal["code", "checkpoint", "memory"]], Meta(max_length=3, description="Bring back this alone.")
    ] = field(default_factory=list)
    plan: Annotated[
        Annotated[str, Meta(max_length=64)] | None,
        Meta(description="The digest of the plan that was shown: refused if it would be another now."),
    ] = None
    confirm: Confirm = False

    def call(self, root: Path) -> None:
        """Calls ``instar rollback``."""
        from instar.engine.cli import rollback

        only = [rollback.Part(part) for part in self.only]
        rollback.command(
            str(self.reference), only, self.plan, dry_run=not self.confirm, yes=True, workspace=root, json=True
        )


class Undo(Tool):
    """Take the last rollback back; a second undo does it again. By default the plan alone is given."""

    changes: ClassVar[bool] = True
    destroys: ClassVar[bool] = True
    repeatable: ClassVar[bool] = False

    confirm: Confirm = False

    def call(self, root: Path) -> None:
        """Calls ``instar undo``."""
        from instar.engine.cli import undo

        undo.command(dry_run=not self.confirm, yes=True, workspace=root, json=True)


CHANGING: tuple[type[Tool], ...] = (Feedback, Train, Mutate, Snapshot, Rollback, Undo)
