"""``instar mutate``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from .asked import actor
from .output import Json, Root, emit, runtime_at, workspace_at
from .run import run_once


def command(
    paths: Annotated[
        list[str] | None,
        typer.Argument(help="With --repair: the files or folders that may be changed; the monitored files by default."),
    ] = None,
    patch: Annotated[str | None, typer.Option(help="A unified diff; - reads stdin.")] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Find a patch with which the gate passes; it has to fail as it is.")
    ] = False,
    gate: Annotated[
        str | None,
        typer.Option(help="The command that must pass in the copy, such as 'python -m pytest -q'; no shell runs it."),
    ] = None,
    tries: Annotated[int | None, typer.Option(help="With --repair: how many proposals are tried.")] = None,
    mutator: Annotated[
        list[str] | None, typer.Option(help="With --repair: who proposes, such as templates or operators; repeatable.")
    ] = None,
    queue: Annotated[bool, typer.Option("--queue", help="Only queue the task; a worker takes it up.")] = False,
    workspace: Root = None,
    json: Json = False,
) -> None:
    """Try a patch in a copy behind its gate, or find one; apply it if it passes. Exit code 5 when none does."""
    from instar.fsm.errors import ConfigError

    if (patch is None) != repair:
        raise ConfigError("give a patch with --patch FILE, or have one found with --repair [PATH…]")
    task: dict[str, Any] = {"type": "mutate", "gate": gate}
    if patch is not None:
        if paths or tries is not None or mutator:
            raise ConfigError("paths, --tries and --mutator belong to --repair")
        task["patch"] = _read(patch)
    else:
        task |= {"repair": True, "paths": _within(paths or [], workspace), "tries": tries, "mutators": mutator or []}
    try_task(task, workspace, queue=queue, as_json=json)


def _within(paths: list[str], workspace: Path | None) -> list[str]:
    """Spells paths as the log does: given relative to where the command runs, or to a workspace that was named."""
    from instar.engine.restoring.restore_path import tree_path

    root, start = workspace_at(workspace).root, Path.cwd() if workspace is None else None
    return [tree_path(root, path, start) or "." for path in paths]


def _read(patch: str) -> str:
    from instar.fsm.errors import InputRefused

    try:
        content = sys.stdin.buffer.read() if patch == "-" else Path(patch).read_bytes()
        return content.decode("utf-8")
    except OSError as error:
        raise InputRefused(f"{patch} cannot be read: {error}") from error
    except UnicodeDecodeError as error:
        raise InputRefused(f"{patch} is not UTF-8: {error}") from error


def try_task(task: Mapping[str, Any], workspace: Path | None, *, queue: bool, as_json: bool) -> None:
    """Tries a mutation, or queues it where a worker runs, and tells what became of it.

    Args:
        task: as ``Engine.execute`` takes it.
        workspace: the folder of the agent, or one below it.
        queue: leave it to a worker.
        as_json: print one envelope.

    Raises:
        InputRefused, ConfigError: the task is malformed, or the patch cannot be read as one.
        GateFailed: it was rejected, and why.
        EffectFailedError: it could not be tried.
    """
    from instar.engine.describe import describe
    from instar.engine.status import worker_runs
    from instar.engine.tool_executor import execute
    from instar.fsm.errors import EffectFailedError, GateFailed
    from instar.fsm.events import MutationAccepted, MutationApplied, MutationRejected

    runtime = runtime_at(workspace)
    executed = execute(runtime, task, source=actor())
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
