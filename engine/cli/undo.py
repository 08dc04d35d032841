"""``instar undo``."""

from __future__ import annotations

from .output import DryRun, Json, Root, Yes, runtime_at


def command(dry_run: DryRun = False, yes: Yes = False, workspace: Root = None, json: Json = False) -> None:
    """Take the last rollback back; a second undo does it again."""
    from instar.engine.restoring.undo import plan_undo

    from .plan_output import run

    runtime = runtime_at(workspace, puts_back=True)
    run("undo", runtime, plan_undo(runtime), dry_run=dry_run, yes=yes, as_json=json)
