"""The events that the log's runs append, and a fresh log to append them to."""

from __future__ import annotations

from pathlib import Path

from instar.fsm.events import FeedbackReceived, WorkspaceInitialized
from instar.fsm.policy import Policy
from instar.fsm.words import digest_of
from instar.store.log import EventLog, create_log

OUTPUT = "os.scandir(path): an iterator of the entries, one each. "


def feedback(number: int) -> FeedbackReceived:
    """An event whose canonical JSON has about 295 bytes."""
    return FeedbackReceived(
        task_type="lookup",
        input=f"request {number:07d}: list the files of a folder",
        output=OUTPUT,
        confidence=0.8125,
        exit_code=0,
    )


def fresh_log(folder: Path) -> EventLog:
    """Makes a log that holds its first event."""
    create_log(folder / "log.db")
    log = EventLog(folder / "log.db")
    log.append(
        WorkspaceInitialized(
            workspace="benchmark", engine="0", tree=digest_of(b""), checkpoint=None, model="", policy=Policy()
        )
    )
    return log
