"""``instar lineage``."""

from __future__ import annotations

from typing import Any

from .output import Json, Root, emit, reader_at


def command(workspace: Root = None, json: Json = False) -> None:
    """List every checkpoint: where it came from, what it gained, and whether it was promoted."""
    from instar.fsm.events import CheckpointTrained, ModelAdopted, OutcomeRewarded, WorkspaceInitialized

    reader = reader_at(workspace)
    active = reader.state_at().checkpoint
    rows: list[dict[str, Any]] = []
    for record in reader.read(types=[WorkspaceInitialized, ModelAdopted, CheckpointTrained, OutcomeRewarded]):
        match record.event:
            case (
                WorkspaceInitialized(checkpoint=str() as checkpoint, model=model)
                | ModelAdopted(checkpoint=checkpoint, model=model)
            ):
                rows.append({"seq": record.seq, "checkpoint": checkpoint, "source": model, "verdict": "base"})
            case CheckpointTrained() as trained:
                rows.append(
                    {
                        "seq": record.seq,
                        "checkpoint": trained.checkpoint,
                        "base": trained.base,
                        "source": trained.lineage.source,
                        "epoch": trained.lineage.epoch,
                        "confidence_gain": trained.lineage.confidence_gain,
                        "gain": trained.gain,
                        "gain_of": trained.gain_of,
                        "replaceable": trained.replaceable,
                        "brought": trained.brought,
                        "abilities": trained.abilities,
                        "temperature": trained.temperature,
                        "verdict": "not judged",
                        "reason": "",
                    }
                )
            case OutcomeRewarded(subject="checkpoint", verdict=verdict, reason=reason) if rows:
                rows[-1].update(verdict=verdict, reason=reason)
    reader.close()
    for row in rows:
        row["active"] = row["checkpoint"] == active
    lines = [
        f"{'*' if row['active'] else ' '} {row['checkpoint'][:12]}  event {row['seq']:<6} {row['verdict']:<10} "
        f"{_source(row)}  {row.get('reason', '')}"
        for row in rows
    ]
    emit("lineage", rows, as_json=json, lines=lines or ["no checkpoint yet"])


def _source(row: dict[str, Any]) -> str:
    brought = row.get("brought")
    return str(row["source"]) if brought is None else f"brought by event {brought}"
