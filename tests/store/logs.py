"""Small logs for tests."""

from __future__ import annotations

from pathlib import Path

from instar.fsm.events import FeedbackReceived, WorkspaceInitialized
from instar.fsm.policy import Policy
from instar.fsm.words import digest_of
from instar.store.log import EventLog, create_log

INIT = WorkspaceInitialized(
    workspace="w", engine="0", tree=digest_of(b"tree"), checkpoint=None, model="", policy=Policy()
)


def feedback(number: int, *, task_type: str = "find", input: str | None = None) -> FeedbackReceived:
    return FeedbackReceived(task_type=task_type, input=input or f"request {number}", output="x", outcome="pass")


def fresh_log(folder: Path) -> EventLog:
    create_log(folder / "log.db")
    log = EventLog(folder / "log.db")
    log.append(INIT)
    return log


def reopened(log: EventLog) -> EventLog:
    return EventLog(log.path)
