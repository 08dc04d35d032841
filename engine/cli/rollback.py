"""``instar rollback``."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from .output import DryRun, Json, Root, Yes, runtime_at


class Part(StrEnum):
    """What of the agent a rollback can bring back alone."""

    CODE = "code"
    CHECKPOINT = "checkpoint"
    MEMORY = "memory"


def command(
    reference: Annotated[
        str, typer.Argument(help="A seq, latest~N, snapshot:NAME, checkpoint:PREFIX, last-good, a time.")
    ],
    only: Annotated[
        list[Part] | None,
        typer.Option(help="Bring back this alone; may be repeated. By default code, checkpoint and memory."),
    ] = None,
    plan: Annotated[
        str | None,
        typer.Option(help="The plan that -n showed: refuse if it would be another now."),
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    workspace: Root = None,
    json: Json = False,
) -> None:
    """Put code, checkpoint and memory back, byte for byte, to an event; `instar undo` takes it back."""
    from instar.engine.restoring.rollback import check_digest, plan_rollback

    from .plan_output import run

    runtime = runtime_at(workspace, puts_back=True)
    planned = plan_rollback(runtime, reference, only=[part.value for part in only or ()])
    check_digest(planned, plan)
    run("rollback", runtime, planned, dry_run=dry_run, yes=yes or plan is not None, as_json=json)
