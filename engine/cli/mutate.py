"""``instar mutate``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from .asked import actor
from .output import Json, Root, emit, runtime_at
from .run import run_once


def command(
    patch: Annotated[str, typer.Option(help="A unified diff; - reads stdin.")],
    gate: Annotated[
        str | None,
        typer.Option(help="The command that must pass in the copy, such as 'python -m pytest -q'; no shell runs it."),
    ] = None,
    queue: Annotated[bool, typer.Option("--queue", help="Only queue the task; a worker takes it up.")] = False,
    workspace: Root = None,
    json: Json = False,
) -> None:
    """Try a patch in a copy behind its gate; apply it if it passes. Exit code 5 when it does not."""
    from instar.fsm.errors import InputRefused

    try:
        content = sys.stdin.buffer.read() if patch == "-" else Path(patch).read_bytes()
        text = content.decode("utf-8")
    except OSError as error:
        raise InputRefused(f"{patch} cannot be read: {error}") from error
    except UnicodeDecodeError as error:
        raise InputRefused(f"{patch} is not UTF-8: {error}") from error
    try_patch(text, gate, workspace, queue=queue, as_json=json)


def try_patch(text: str, gate: str | None, workspace: Path | None, *, queue: bool, as_json: bool) -> None:
    """Tries a patch, or queues it where a worker runs, and tells what became of it.

    Args:
        text: a unified diff.
        gate: the command that must pass; that of the settings by default.
        workspace: the folder of the agent, or one below it.
        queue: leave it to a worker.
        as_json: print one envelope.

    Raises:
        InputRefused, ConfigError: the patch cannot be read as one.
        GateFailed: it was rejected, and why.
        EffectFailedError: it could not be tried.
    """
    from instar.engine.describe import describe
    from instar.engine.status import worker_runs
    from instar.engine.tool_executor import execute
    from instar.fsm.errors import EffectFailedError, GateFailed
    from instar.fsm.events import MutationAccepted, MutationApplied, MutationRejected

    runtime = runtime_at(workspace)
    executed = execute(runtime, {"type": "mutate", "patch": text, "gate": gate}, source=actor())
    if queue or worker_runs(runtime.workspace):
        runtime.close()
        told = f"queued as event {executed.event}"
        emit("mutate", {"event": executed.event, "ran": False}, as_json=as_json, lines=[told])
        return
    run_once(workspace, quiet=as_json)
    kinds = (MutationRejected, MutationAccepted, MutationApplied)
    records = list(runtime.reader.read(executed.event + 1, types=kinds))
    runtime.close()
    verdicts = [record for record in records if getattr(record.event, "task", None) == executed.event]
    if not verdicts:
        raise EffectFailedError("no verdict was reached; `instar log --type EffectFailed` says why")
    last = verdicts[-1]
    if isinstance(last.event, MutationRejected):
        raise GateFailed(f"rejected (event {last.seq}): {last.event.reason}", event=last.seq)
    emit(
        "mutate",
        {"event": executed.event, "ran": True, "verdict": "applied", "seq": last.seq, "outcome": last.event},
        as_json=as_json,
        lines=[f"applied (event {last.seq}): {describe(last.event)}; `instar rollback {executed.event}` takes it back"],
    )
