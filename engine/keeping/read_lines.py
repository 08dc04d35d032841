"""What data sets keep of the agent's log files: it names no event, so its erasure is asked for by the data set."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from instar.engine.dataset.log_failures import LogFailure, read_failures
from instar.engine.workspace import Workspace
from instar.fsm.errors import RollbackRefused
from instar.fsm.events import DatasetGenerated
from instar.fsm.record import Recorded
from instar.store.ports import Blobs


class Line(NamedTuple):
    """What was told of a failure."""

    message: str
    input: str | None
    reference: str | None


def lines_of(blobs: Blobs, event: DatasetGenerated) -> frozenset[Line]:
    """Reads what a data set keeps of log files; nothing, where that is gone."""
    if event.logs is None or not blobs.has(event.logs):
        return frozenset()
    return _lines(msgspec.json.decode(blobs.get(event.logs), type=list[LogFailure]))


def lines_gone(workspace: Workspace, blobs: Blobs, record: Recorded, event: DatasetGenerated) -> frozenset[Line]:
    """Gives what a data set keeps and no log file tells any more: that is what is to go.

    Raises:
        RollbackRefused: all of it still stands there; the next data set would bring it back.
    """
    standing, _ = read_failures(workspace.logs, leave_out=(workspace.audit_log,))
    gone = lines_of(blobs, event) - _lines(standing)
    if not gone:
        raise RollbackRefused(
            f"all that event {record.seq} read of log files still stands in {workspace.logs}: take the lines that are "
            "to go out of there first, then erase"
        )
    return gone


def _lines(failures: list[LogFailure]) -> frozenset[Line]:
    return frozenset(Line(one.message, one.input, one.reference) for one in failures)
