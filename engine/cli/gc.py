"""``instar gc``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .output import DryRun, Json, Root, Yes, emit, runtime_at, say

if TYPE_CHECKING:
    from instar.engine.keeping.housekeeping import Kept, Swept
    from instar.engine.keeping.kinds import Size

_SPANS_SHOWN = 8


def command(
    days: Annotated[
        float | None, typer.Option("--days", help="Keep everything younger than this; as [retention] says by default.")
    ] = None,
    compact: Annotated[bool, typer.Option("--compact/--no-compact", help="Store what stays in less room.")] = True,
    collect: Annotated[bool, typer.Option("--collect/--no-collect", help="Take away what no kept event needs.")] = True,
    dry_run: DryRun = False,
    yes: Yes = False,
    workspace: Root = None,
    json: Json = False,
) -> None:
    """Free room: take away what no kept event needs, and store the rest smaller. Events are never touched."""
    from instar.engine.keeping.housekeeping import look, retention_of, sweep
    from instar.fsm.errors import RollbackRefused

    from .live import Live

    runtime = runtime_at(workspace)
    try:
        kept = look(runtime, retention_of(runtime, days), collects=collect)
        if dry_run:
            emit("gc", {"dry_run": True, **_content(kept)}, as_json=json, lines=_lines(kept, "would go"))
            return
        if kept.plan is not None and kept.plan.doomed and not yes:
            if not (sys.stdin.isatty() and sys.stderr.isatty()):
                raise RollbackRefused("nobody can be asked here: look with -n, then give -y")
            say(*_lines(kept, "would go"))
            typer.confirm("Take them away? There is no way back to what they are.", abort=True, err=True)
        with Live() as live:
            done = sweep(runtime, kept, compacts=compact, progress=live.report)
        emit("gc", {**_content(kept), **_done(done)}, as_json=json, lines=_told(kept, done))
    finally:
        runtime.close()


def _content(kept: Kept) -> dict[str, Any]:
    plan = kept.plan
    content: dict[str, Any] = {
        "leftovers": [{"path": str(one.path), "what": one.what, "bytes": one.bytes} for one in kept.leftovers],
        "saved_states": kept.saved_states,
        "uncompacted": {"blobs": kept.unpressed_blobs, "bytes": kept.unpressed_bytes},
    }
    if plan is not None:
        content |= {
            "retention": plan.retention,
            "kept_from": plan.kept_from,
            "points": plan.points,
            "blobs": len(plan.doomed),
            "bytes": plan.bytes,
            "going": plan.going,
            "staying": plan.staying,
            "unreachable": [[span.first, span.last] for span in plan.unreachable],
        }
    return content


def _done(done: Swept) -> dict[str, Any]:
    return {
        "event": done.event,
        "collected": {"blobs": done.collected, "bytes": done.collected_bytes},
        "leftovers_removed": len(done.leftovers),
        "saved_states_removed": done.saved_states,
        "compacted": done.compacted,
        "note": done.note,
    }


def _lines(kept: Kept, verb: str) -> list[str]:
    lines: list[str] = []
    plan = kept.plan
    if plan is not None:
        lines.append(
            f"kept: events from {plan.kept_from} on, and {len(plan.points)} older points (the first event, named "
            "snapshots, promotions, safety snapshots)"
        )
        lines.append(f"{len(plan.doomed)} blobs ({_mb(plan.bytes)}) {verb}")
        lines += _table(plan.going, plan.staying)
        lines += _unreachable([(span.first, span.last) for span in plan.unreachable])
    if kept.leftovers:
        lines.append(f"{len(kept.leftovers)} leftovers ({_mb(sum(one.bytes for one in kept.leftovers))}) {verb}")
        lines += [f"  {_mb(one.bytes):>10}  {one.what}: {one.path}" for one in kept.leftovers[:_SPANS_SHOWN]]
    if kept.saved_states:
        lines.append(f"{kept.saved_states} saved states {verb}; each can be folded again")
    if kept.unpressed_blobs:
        lines.append(f"{kept.unpressed_blobs} blobs ({_mb(kept.unpressed_bytes)}) are not compacted")
    return lines


def _table(going: dict[str, Size], staying: dict[str, Size]) -> list[str]:
    lines = [f"  {'kind':<30}{'goes':>10}{'blobs':>8}{'stays':>12}{'blobs':>8}"]
    for kind in dict.fromkeys((*going, *staying)):
        gone, left = going.get(kind), staying.get(kind)
        first = f"{_mb(gone.bytes):>10}{gone.count:>8}" if gone else f"{'–':>10}{'':>8}"
        then = f"{_mb(left.bytes):>12}{left.count:>8}" if left else f"{'–':>12}{'':>8}"
        lines.append(f"  {kind:<30}{first}{then}")
    return lines


def _unreachable(spans: list[tuple[int, int]]) -> list[str]:
    if not spans:
        return ["  every event that can be returned to now can be returned to then"]
    shown = ", ".join(f"{first}–{last}" if last > first else str(first) for first, last in spans[:_SPANS_SHOWN])
    more = f" and {len(spans) - _SPANS_SHOWN} more spans" if len(spans) > _SPANS_SHOWN else ""
    count = sum(last - first + 1 for first, last in spans)
    return [f"  no return any more to {count} events: {shown}{more}"]


def _told(kept: Kept, done: Swept) -> list[str]:
    lines = []
    if done.event is not None:
        lines.append(f"{done.collected} blobs ({_mb(done.collected_bytes)}) are gone, by event {done.event}")
    elif kept.plan is not None:
        lines.append("no blob to collect")
    if done.leftovers:
        lines.append(f"{len(done.leftovers)} leftovers ({_mb(sum(one.bytes for one in done.leftovers))}) are gone")
    if done.saved_states:
        lines.append(f"{done.saved_states} saved states are gone")
    found = done.compacted
    if found is not None and found.blobs:
        lines.append(
            f"{found.blobs} blobs compacted, {found.against} of them against another version: blobs in the database "
            f"take {_mb(found.after_bytes)} in place of {_mb(found.before_bytes)}"
        )
    if done.note:
        lines.append(f"the file was not made smaller: {done.note}")
    return lines or ["nothing to do"]


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
