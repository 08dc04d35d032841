"""How a plan of a rollback, an undo or a restore is shown, asked about, and reported when it is done."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from .asked import actor
from .output import emit, say

if TYPE_CHECKING:
    from instar.engine.differences.memory_diff import MemoryRows
    from instar.engine.restoring.rollback import RollbackPlan, RolledBack
    from instar.engine.runtime import Runtime

_SIGNS = {"add": "+", "change": "~", "delete": "-"}


def run(verb: str, runtime: Runtime, plan: RollbackPlan, *, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Shows a plan, asks, and carries out exactly what was shown.

    Raises:
        RollbackRefused: nobody can be asked.
        Diverged: files changed while the user thought about it; nothing was moved.
    """
    import typer

    from instar.engine.restoring.rollback import roll_back
    from instar.fsm.errors import RollbackRefused

    try:
        if dry_run:
            content = {"dry_run": True, **_content(runtime, plan)}
            emit(verb, content, as_json=as_json, lines=_lines(runtime, plan))
            return
        if plan.is_empty:
            text = "everything stands there already; nothing done"
            emit(verb, {"changed": 0, **_content(runtime, plan)}, as_json=as_json, lines=[text])
            return
        if not yes:
            if not (sys.stdin.isatty() and sys.stderr.isatty()):
                raise RollbackRefused("nobody can be asked here: look with -n, then give -y")
            say(*_lines(runtime, plan))
            typer.confirm(f"{verb.capitalize()}?", abort=True, err=True)
        where = "on the command line" if actor() == "cli" else f"by {actor()}"
        done = roll_back(runtime, plan, "undo" if verb == "undo" else f"asked for {where}")
    finally:
        runtime.close()
    emit(verb, done, as_json=as_json, lines=_done(verb, done))


def _done(verb: str, done: RolledBack) -> list[str]:
    what = {"rollback": "rolled back", "undo": f"took back the rollback of event {done.undoes}: all"}.get(
        verb, "restored"
    )
    alone = f" ({', '.join(done.paths or done.parts)} alone)" if done.paths or len(done.parts) < 3 else ""
    lines = [
        f"{what} to event {done.target}{alone}: {done.changed} paths, checkpoint {(done.checkpoint or 'none')[:12]}",
        f"  events {done.started} to {done.finished}; take it back with `instar undo`",
    ]
    if done.displaced:
        lines.append(
            f"  {done.displaced} files had changed meanwhile; their bytes are kept: `instar show {done.finished}`"
        )
    return lines


def _left_alone(runtime: Runtime, plan: RollbackPlan) -> dict[str, str]:
    """Names every path that is not touched because it is not captured, now or at the target."""
    if "code" not in plan.asked.parts:
        return {}
    seen = runtime.capture.tree().unmanaged | plan.plan.kept
    within = plan.asked.paths
    return {
        path: seen[path]
        for path in sorted(seen)
        if not within or any(path == one or path.startswith(f"{one}/") or not one for one in within)
    }


def _memory(runtime: Runtime, plan: RollbackPlan) -> tuple[MemoryRows, MemoryRows]:
    from instar.engine.differences.memory_diff import moved_rows

    return moved_rows(runtime.reader, plan.memory_now, plan.memory)


def _content(runtime: Runtime, plan: RollbackPlan) -> dict[str, Any]:
    shown, hidden = _memory(runtime, plan)
    return {
        "target": plan.target,
        "digest": plan.digest,
        "parts": plan.asked.parts,
        "paths": plan.asked.paths,
        "undoes": plan.asked.undoes,
        "tree": plan.tree,
        "checkpoint": plan.checkpoint,
        "checkpoint_now": plan.checkpoint_now,
        "checkpoint_changes": plan.checkpoint != plan.checkpoint_now,
        "memory_changes": plan.memory != plan.memory_now,
        "memory_rows_shown": shown.rows,
        "memory_rows_hidden": hidden.rows,
        "memory_rows_to_embed": len(plan.to_embed),
        "steps": [{"path": step.path, "action": step.action} for step in plan.plan.steps],
        "folders_made": plan.plan.make,
        "folders_removed": plan.plan.unmake,
        "left_alone": _left_alone(runtime, plan),
    }


def _lines(runtime: Runtime, plan: RollbackPlan) -> list[str]:
    lines = [f"  {_SIGNS[step.action]} {step.path}" for step in plan.plan.steps]
    lines += [f"  + {folder}/" for folder in plan.plan.make]
    lines += [f"  - {folder}/, if it is empty then" for folder in plan.plan.unmake]
    if plan.checkpoint != plan.checkpoint_now:
        lines.append(f"  ~ checkpoint {(plan.checkpoint_now or 'none')[:12]} → {(plan.checkpoint or 'none')[:12]}")
    if plan.memory != plan.memory_now:
        shown, hidden = _memory(runtime, plan)
        lines.append(f"  ~ memory: {hidden.rows} rows hidden, {shown.rows} shown again")
    if plan.to_embed:
        lines.append(f"  ~ memory: {len(plan.to_embed)} rows embedded in the space of that checkpoint first")
    body = lines or ["  nothing to change"]
    body += [f"  ? {path}  left alone: {reason}" for path, reason in _left_alone(runtime, plan).items()]
    alone = f", {', '.join(plan.asked.paths or plan.asked.parts)} alone" if plan.asked.parts != _all() else ""
    head = f"to event {plan.target}{alone}, tree {plan.tree[:12]}:"
    return [head, *body, f"plan {plan.digest[:12]}"]


def _all() -> tuple[str, ...]:
    from instar.fsm.events import PARTS

    return PARTS
