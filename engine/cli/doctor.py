"""``instar doctor``."""

from __future__ import annotations

from .output import Json, Root, emit, workspace_at


def command(workspace: Root = None, json: Json = False) -> None:
    """Say what this machine and this workspace have, what is missing, and what to do about it."""
    from instar.engine.doctor import examine

    findings = examine(workspace_at(workspace))
    marks = {"ok": "ok  ", "note": "note", "bad": "BAD "}
    lines = [f"{marks[finding.level]}  {finding.subject:<14} {finding.text}" for finding in findings]
    emit("doctor", findings, as_json=json, lines=lines)
