"""One folder works on a stream: a copy of a folder brings the stream's name along, and would record into it too.

What two folders see of files would be recorded in turn, each as a change of what the other has, without end. On one
machine a copy is told by the folder that it came from, which is still there; elsewhere by the worker of that one.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from instar.fsm.errors import FolderCopied, LogUnavailable
from instar.store.durable import write_durably
from instar.store.postgres_hold import busy, other_worker
from instar.store.reader import LogReader

from .status import worker_runs
from .workspace import HOME, STREAM, Workspace

if TYPE_CHECKING:
    from .runtime import Runtime


def original_of(workspace: Workspace) -> Path | None:
    """Finds the folder of which this one is a copy, if both record into the same stream and that one is still there."""
    try:
        name = workspace.stream.read_bytes()
        there = Path(os.fsdecode(workspace.stands.read_bytes()))
        if there == workspace.root or (there / HOME / STREAM).read_bytes() != name:
            return None
        return None if there.samefile(workspace.root) else there
    except (OSError, ValueError):
        return None  # no stream, no note of a place, nothing there any more, or what stands there cannot be read


def refuse_copy(workspace: Workspace) -> None:
    """Makes sure that the folder is no copy, and notes where it stands; one that was moved stands there from now on.

    Raises:
        FolderCopied: it is one.
        LogUnavailable: that cannot be noted.
    """
    if workspace.log.exists() or not workspace.stream.is_file():
        return
    there = original_of(workspace)
    if there is not None:
        home = workspace.home
        raise FolderCopied(
            f"{workspace.root} is a copy of {there}, and has the name of its stream in {HOME}/{STREAM}: each would "
            "record the other's files as changes, without end. Nothing was recorded. To make it an agent of its own, "
            f"move {HOME} out of it and begin anew: `mv {shlex.quote(str(home))} "
            f"{shlex.quote(str(workspace.root) + HOME)}`, then `instar init`. To go on here instead, move "
            f"{there / HOME} away."
        )
    here = os.fsencode(workspace.root)
    try:
        if not workspace.stands.exists() or workspace.stands.read_bytes() != here:
            write_durably(workspace.stands, here)
    except OSError as error:
        raise LogUnavailable(f"{workspace.stands} cannot be written: {error}. Give write permission there.") from error


def worker_elsewhere(reader: LogReader, workspace: Workspace) -> str:
    """Says which session of the server is the worker of the stream, if it is one of another folder; else nothing."""
    if reader.place.url is None or worker_runs(workspace):
        return ""
    who = other_worker(reader)
    return "" if worker_runs(workspace) else who  # ours holds its folder before the stream, and longer


def refuse_other_worker(runtime: Runtime) -> None:
    """Makes sure that no worker of another folder works on the stream, before what stands here is recorded.

    Raises:
        WorkerBusy: one does.
    """
    if who := worker_elsewhere(runtime.reader, runtime.workspace):
        raise busy(runtime.log.place, who)
