"""SEED's audit files, projections of the log: ``bootstrap.log``, a line an event; ``bootstrap.json``, the lineage."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from instar.fsm import events as e
from instar.fsm.record import Recorded
from instar.store.clock import iso

from .feedback_loop import write_beside
from .runtime import Runtime
from .visible import visible
from .workspace import Workspace

TAIL_BYTES = 16 * 1024

AUDITED = (
    e.WorkspaceInitialized,
    e.ModelAdopted,
    e.RetrainFlagged,
    e.DatasetGenerated,
    e.CheckpointTrained,
    e.OutcomeRewarded,
    e.MutationRejected,
    e.MutationAccepted,
    e.MutationApplied,
    e.ProbationEnded,
    e.RollbackStarted,
    e.RollbackFinished,
    e.EffectFailed,
)


def write_audit(runtime: Runtime) -> str | None:
    """Brings both audit files to the head of the log; files that were lost or cut are written again.

    Returns:
        Why one of them cannot be written. The log holds all that they say, so that is no reason to stop: the next call
        tries again.
    """
    workspace = runtime.workspace
    known = _last_written(workspace.audit_log)
    behind = _is_behind(workspace.audit, workspace.audit_log)
    fresh: list[str] = []
    for record in runtime.reader.read((known or 0) + 1, types=AUDITED):
        fresh.append(_line(record))
        behind = behind or _is_of_lineage(record.event)
    lines = "".join(fresh).encode()

    def write_log() -> None:
        if known is None:
            write_beside(workspace.audit_log, lines, workspace.root)
        elif fresh:
            with workspace.audit_log.open("ab") as file:
                file.write(lines)

    def write_lineage() -> None:
        if behind:
            write_beside(workspace.audit, _lineage(runtime), workspace.root)
        elif fresh:
            os.utime(workspace.audit)  # it says all that there is: to make it anew, the whole log is read

    faults = [_fault(workspace.audit_log, write_log), _fault(workspace.audit, write_lineage)]
    return "; ".join(filter(None, faults)) or None


def _fault(path: Path, write: Callable[[], None]) -> str | None:
    try:
        write()
    except OSError as error:
        return f"{path} cannot be written: {error.strerror or error}"
    return None


def _is_behind(lineage: Path, audit_log: Path) -> bool:
    """Says whether the lineage is absent, or could not be written when the lines last were."""
    try:
        return not lineage.is_file() or lineage.stat().st_mtime_ns < audit_log.stat().st_mtime_ns
    except OSError:
        return True


def faults(workspace: Workspace) -> list[str]:
    """Says which of the audit files cannot be written, and why; tries nothing."""
    lines, lineage = workspace.audit_log, workspace.audit
    found = {lines: _in_the_way(lines), lineage: _in_the_way(lineage)}
    if found[lines] is None and lines.is_file() and not os.access(lines, os.W_OK):
        found[lines] = "cannot be written to: there is no permission"
    return [f"{path} {why}" for path, why in found.items() if why]


def _in_the_way(path: Path) -> str | None:
    """Says why a file cannot be put in its place; whatever is no folder gives way."""
    if path.is_dir() and not path.is_symlink():
        return "is a folder"
    above = next(folder for folder in path.parents if os.path.lexists(folder))
    if not above.is_dir():
        return f"has no folder: {above} is none"
    return None if os.access(above, os.W_OK | os.X_OK) else f"cannot be put there: no permission to write in {above}"


def _last_written(path: Path) -> int | None:
    """Reads the position of the last line; None where the file is absent, empty or torn, and must be written anew."""
    try:
        if not path.is_file():  # to open a pipe would wait for its writer
            return None
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES))
            tail = file.read().decode("utf-8", "replace")
    except OSError:
        return None
    seqs = re.findall(r"^\S+ event=(\d+) .*$", tail, re.M)
    return int(seqs[-1]) if seqs and tail.endswith("\n") else None


def _line(record: Recorded) -> str:
    facts = " ".join(f"{name}={_short(value)}" for name, value in summary(record).items())
    return f"{iso(record.recorded_at_us)} event={record.seq} {type(record.event).__name__} {facts}\n"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    text = " ".join(text.split())
    return visible(msgspec.json.encode(text[:300]).decode() if " " in text else text[:300])


def summary(record: Recorded) -> dict[str, Any]:
    """Gives the facts of an event that a person reads first."""
    match record.event:
        case e.WorkspaceInitialized(workspace=workspace, model=model, checkpoint=checkpoint):
            return {"workspace": workspace, "model": model, "checkpoint": checkpoint or "none"}
        case e.ModelAdopted(model=model, checkpoint=checkpoint):
            return {"model": model, "checkpoint": checkpoint}
        case e.RetrainFlagged(triggers=triggers):
            return {"triggers": [trigger.policy for trigger in triggers], "note": "; ".join(t.note for t in triggers)}
        case e.DatasetGenerated(dataset=dataset, train=train, heldout=heldout, left_out=left_out):
            return {"dataset": dataset[:16], "train": train, "heldout": heldout, "left_out": left_out}
        case e.CheckpointTrained(checkpoint=checkpoint, lineage=lineage, gain=gain):
            return {"checkpoint": checkpoint[:16], "lineage": lineage, "gain": gain}
        case e.OutcomeRewarded(subject=subject, verdict=verdict, reason=reason, rewards=rewards):
            return {"subject": subject, "verdict": verdict, "rewards": len(rewards), "reason": reason}
        case e.MutationRejected(reason=reason, exit_code=code):
            return {"exit_code": code, "reason": reason}
        case e.MutationAccepted(tree_before=before, tree_after=after):
            return {"tree_before": before[:16], "tree_after": after[:16]}
        case e.MutationApplied(tree=tree):
            return {"tree": tree[:16]}
        case e.ProbationEnded(subject=subject, applied=applied, verdict=verdict, reason=reason):
            return {"subject": subject, "applied": applied, "verdict": verdict, "reason": reason}
        case e.RollbackStarted(target=target, tree=tree, parts=parts, undoes=undoes):
            told: dict[str, Any] = {"target": target, "tree": tree[:16]}
            return told | ({"parts": parts} if parts != e.PARTS else {}) | ({"undoes": undoes} if undoes else {})
        case e.RollbackFinished(started=started, tree=tree, displaced=displaced):
            return {"started": started, "tree": tree[:16], "displaced": len(displaced)}
        case e.EffectFailed(effect=effect, reason=reason):
            return {"effect": effect, "reason": reason}
        case _:
            return {}


def _is_of_lineage(event: e.AnyEvent) -> bool:
    return isinstance(event, e.CheckpointTrained) or (
        isinstance(event, e.OutcomeRewarded) and event.subject == "checkpoint"
    )


def _lineage(runtime: Runtime) -> bytes:
    rows = []
    for record in runtime.reader.read(types=[e.CheckpointTrained, e.OutcomeRewarded]):
        match record.event:
            case e.CheckpointTrained() as trained:
                rows.append(
                    {
                        "event": record.seq,
                        "time": iso(record.recorded_at_us),
                        "checkpoint": trained.checkpoint,
                        "base": trained.base,
                        "dataset": trained.dataset,
                        "lineage": trained.lineage,
                        "gain": trained.gain,
                        "replaceable": trained.replaceable,
                        "verdict": None,
                    }
                )
            case e.OutcomeRewarded(subject="checkpoint", verdict=verdict, reason=reason) if rows:
                rows[-1].update(verdict=verdict, reason=reason)
    content = {"schema_version": 1, "workspace": runtime.state.workspace, "retrains": rows}
    return msgspec.json.format(msgspec.json.encode(content, order="sorted"), indent=2) + b"\n"
