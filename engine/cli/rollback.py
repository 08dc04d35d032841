"""``instar rollback``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .output import DryRun, Json, Root, Yes, emit, runtime_at, say

if TYPE_CHECKING:
    from instar.engine.rollback import RollbackPlan


def command(
    reference: Annotated[
        str, typer.Argument(help="A seq, latest~N, snapshot:NAME, checkpoint:PREFIX, last-good, a time.")
    ],
    dry_run: DryRun = False,
    yes: Yes = False,
    workspace: Root = None,
    json: Json = False,
) -> None:
    """Put code, checkpoint and memory back, byte for byte, to an event. A rollback can itself be rolled back."""
    from instar.engine.rollback import plan_rollback, roll_back
    from instar.fsm.errors import RollbackRefused

    runtime = runtime_at(workspace)
    plan = plan_rollback(runtime, reference)
    if dry_run:
        emit("rollback", {"dry_run": True, **_content(plan)}, as_json=json, text=_text(plan))
        runtime.close()
        return
    if plan.is_empty:
        runtime.close()
        emit(
            "rollback",
            {"changed": 0, **_content(plan)},
            as_json=json,
            text="everything stands there already; nothing done",
        )
        return
    if not yes:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise RollbackRefused("nobody can be asked here: look with -n, then give -y")
        say(_text(plan))
        typer.confirm("Roll back?", abort=True, err=True)
    done = roll_back(runtime, reference, "asked for on the command line")
    runtime.close()
    lines = [
        f"rolled back to event {done.target}: {done.changed} paths, checkpoint {(done.checkpoint or 'none')[:12]}",
        f"  events {done.started} to {done.finished}; take it back with `instar rollback snapshot:{done.safety}`",
    ]
    if done.displaced:
        lines.append(
            f"  {done.displaced} files had changed meanwhile; their bytes are kept: `instar show {done.finished}`"
        )
    emit("rollback", done, as_json=json, text="\n".join(lines))


def _content(plan: RollbackPlan) -> dict[str, Any]:
    return {
        "target": plan.target,
        "tree": plan.tree,
        "checkpoint": plan.checkpoint,
        "checkpoint_changes": plan.checkpoint != plan.checkpoint_now,
        "memory_changes": plan.memory_rows_hidden,
        "steps": [{"path": step.path, "action": step.action} for step in plan.plan.steps],
    }


def _text(plan: RollbackPlan) -> str:
    signs = {"add": "+", "change": "~", "delete": "-"}
    lines = [f"  {signs[step.action]} {step.path}" for step in plan.plan.steps]
    if plan.checkpoint != plan.checkpoint_now:
        lines.append(f"  ~ checkpoint {(plan.checkpoint_now or 'none')[:12]} → {(plan.checkpoint or 'none')[:12]}")
    if plan.memory_rows_hidden:
        lines.append("  ~ memory: rows recorded since then are hidden")
    body = "\n".join(lines) or "  nothing to change"
    return f"to event {plan.target}, tree {plan.tree[:12]}:\n{body}"
