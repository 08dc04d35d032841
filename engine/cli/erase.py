"""``instar erase``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .output import DryRun, Json, Root, Yes, emit, runtime_at, say

if TYPE_CHECKING:
    from instar.engine.keeping.erase import ErasurePlan


def command(
    reference: Annotated[str, typer.Argument(help="The signal whose text is to go: a seq, latest, a time, …")],
    path: Annotated[
        str | None, typer.Argument(help="A file, whose content at that event is to go, whatever brought it.")
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="On whose request, and why; it is recorded.")] = "",
    dry_run: DryRun = False,
    yes: Yes = False,
    workspace: Root = None,
    json: Json = False,
) -> None:
    """Erase the text of an event and its copies, on lawful request: cannot be undone, and the chain still verifies."""
    from instar.engine.keeping.erase import erase, plan_erasure
    from instar.engine.references import resolve
    from instar.engine.restoring.restore_path import tree_path
    from instar.fsm.errors import RollbackRefused

    runtime = runtime_at(workspace)
    seq = resolve(runtime.reader, reference)
    start = Path.cwd() if workspace is None else None
    named = None if path is None else tree_path(runtime.workspace.root, path, start)
    plan = plan_erasure(runtime, seq, reason or ("a dry run" if dry_run else ""), named)
    content = {
        "target": plan.target,
        "type": plan.type,
        "events": plan.events,
        "blobs": plan.blobs,
        "blobs_kept": plan.kept,
        "checkpoints_that_learned": plan.learned,
    }
    if dry_run:
        runtime.close()
        emit("erase", {"dry_run": True, **content}, as_json=json, lines=_lines(plan, "would be erased"))
        return
    if not yes:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise RollbackRefused("nobody can be asked here: look with -n, then give -y")
        say(*_lines(plan, "would be erased"))
        typer.confirm("Erase? This cannot be undone.", abort=True, err=True)
    records = erase(runtime, plan)
    whole = runtime.log.erased_from_file
    runtime.close()
    content["erased_by"] = [record.seq for record in records]
    done = f"erased, by events {records[0].seq} to {records[-1].seq}"
    content["out_of_files"] = whole
    lines = _lines(plan, done)
    if not whole:
        lines.append(
            f"  a process that still reads keeps it in {runtime.workspace.log}-wal: run `instar gc` once it ended"
        )
    emit("erase", content, as_json=json, lines=lines)


def _lines(plan: ErasurePlan, done: str) -> list[str]:
    copies = ", ".join(str(seq) for seq in plan.events[1:])
    lines = [f"event {plan.target} ({plan.type}) and {len(plan.blobs)} blobs: {done}"]
    if copies:
        lines.append(f"  its copies in events {copies}")
    if plan.kept:
        lines.append(f"  {len(plan.kept)} blobs hold it too but are needed by other events: they stay")
    if plan.learned:
        names = ", ".join(digest[:12] for digest in plan.learned)
        lines.append(f"  checkpoints that learned from it, whose weights cannot be erased: {names}")
    return lines
