"""``instar log``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from .output import Json, Root, emit, reader_at


def command(
    count: Annotated[int, typer.Option("-c", "--count", min=1, help="How many events, from the head back.")] = 30,
    kind: Annotated[list[str] | None, typer.Option("--type", help="Only events of this type; may be repeated.")] = None,
    workspace: Root = None,
    json: Json = False,
) -> None:
    """List the latest events."""
    from instar.engine.describe import describe
    from instar.fsm.codec import TYPES
    from instar.fsm.errors import ConfigError
    from instar.store.clock import iso

    unknown = [name for name in kind or () if name not in TYPES]
    if unknown:
        raise ConfigError(f"there is no event type {unknown[0]!r}. Known: {', '.join(sorted(TYPES))}.")
    reader = reader_at(workspace)
    records = reader.tail(count, [TYPES[name] for name in kind or ()])
    rows: list[dict[str, Any]] = []
    lines: list[str] = []
    for record in records:
        name = type(record.event).__name__
        about = describe(record.event)
        moved = record.state_before != record.state_after
        rows.append(
            {
                "seq": record.seq,
                "type": name,
                "time": iso(record.recorded_at_us),
                "actor": record.actor,
                "cycle": record.cycle,
                "cause": record.cause,
                "state_before": record.state_before,
                "state_after": record.state_after,
                "about": about,
                "hash": record.hash,
            }
        )
        states = f"{record.state_before} → {record.state_after}" if moved else f"{record.state_after}"
        lines.append(f"{record.seq:>6}  {iso(record.recorded_at_us)[11:19]}  {name:<20}  {states:<24}  {about}"[:220])
    emit("log", rows, as_json=json, text="\n".join(lines))
