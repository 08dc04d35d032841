"""``instar status``."""

from __future__ import annotations

from .output import Json, Root, emit, workspace_at


def command(workspace: Root = None, json: Json = False) -> None:
    """Say where machine and agent stand."""
    from instar.engine.clock_ahead import told
    from instar.engine.progress import read_progress
    from instar.engine.status import read_status
    from instar.store.clock import SystemClock
    from instar.store.long_waits import stopped_holder
    from instar.store.reader import LogReader

    found = workspace_at(workspace)
    reader = LogReader(found.place)
    status = read_status(reader, found)
    reader.close()
    now_us = SystemClock().now_us()
    progress = read_progress(found.progress) if status.worker else None
    rewards = (
        ", ".join(f"{row['task_type']} {row['mean']:.2f} ({row['count']})" for row in status.rewards[:6]) or "none"
    )
    owed = f", owes {status.owed}" if status.owed else ""
    running = "running" if status.worker else "not running (`instar run` starts it)"
    if progress is not None and (doing := progress.told(now_us)):
        running = f"{running}: {doing} (process {progress.pid})"
    if status.worker and (stopped := stopped_holder(found.worker_lock)):
        running = f"{running}; it is stopped, and does nothing until `kill -CONT {stopped}`"
    lines = [
        f"{status.root}",
        f"  state       {status.state} since event {status.since}{owed}",
        f"  log         {status.head} events, {status.cycles} cycles, {status.waiting} signals wait",
        f"  worker      {running}",
        f"  tree        {(status.tree or 'none')[:12]}",
        f"  checkpoint  {(status.checkpoint or 'none')[:12]}",
        f"  rewards     {rewards}",
        f"  snapshots   {', '.join(sorted(status.snapshots)) or 'none'}",
    ]
    watches = [("checkpoint promoted", watch) for watch in status.checkpoint_probations]
    watches += [("mutation", watch) for watch in status.mutation_probations]
    for what, watch in watches:
        left, applied = watch["left"], watch["applied"]
        lines.append(f"  The {what} at event {applied} is on probation for {left} more outcomes.")
    if status.restoring:
        lines.append("  A restore was cut off; `instar run --once` finishes it.")
    if status.retrains_suppressed:
        lines.append(f"  {status.retrains_suppressed} retrains were wanted while their hourly budget was used up.")
    if status.clock_ahead_s:
        lines.append(f"  Beware: {told(status.clock_ahead_s, now_us)}.")
    emit("status", status, as_json=json, lines=lines)
