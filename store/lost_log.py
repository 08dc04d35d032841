"""Whether a log stood where there is none: what lies in its folder tells, and no new log may be begun over it.

A log is made before anything else of a workspace, and removed by nothing of ours. So what only comes once a log stands
is a sure trace of one. A first ``init`` that was killed before that leaves none of it, and can be repeated.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Final

from instar.fsm.errors import LogForeign, LogLost, LogMissing

from .place import Place

FOLDERS: Final = ("blobs", "checkpoints", "cookies", "memory", "scratch", "staging")
"""Made once a log stands; one that is empty is no trace."""
FILES: Final = (
    "files.lock",
    "gc.lock",
    "progress.json",
    "stat-cache",
    "stat-cache.clock",
    "worker.lock",
    "worker.log",
    "worker.sock",
)
"""The same, of files; here even an empty one is a trace."""
FILLED: Final = ("log.lock", "-wal")
"""A trace unless it is empty: the lock is taken to make the log, and written to once that is open; ``-wal`` is what
ends the name of the log's own file of latest events."""


def stands(path: Path) -> bool:
    """Says whether a file that holds anything is in the log's place; of 0 bytes none of ours ever is.

    Raises:
        OSError: its folder cannot be entered.
    """
    try:
        return path.stat().st_size > 0
    except (FileNotFoundError, NotADirectoryError):
        return False


def traces_of(path: Path) -> list[str]:
    """Names what lies beside a log's place that only comes once a log stands there.

    Args:
        path: where the log should be.

    Raises:
        OSError: its folder cannot be read.
    """
    try:
        with os.scandir(path.parent) as found:
            names = sorted(entry.name for entry in found if _is_trace(entry, path.name))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return names


def _is_trace(entry: os.DirEntry[str], log: str) -> bool:
    try:
        if entry.name in FOLDERS:
            return entry.is_dir() and any(Path(entry.path).iterdir())
        filled = entry.name.removeprefix(log) if entry.name != log else ""
        return entry.name in FILES or (filled in FILLED and entry.stat().st_size > 0)
    except FileNotFoundError:
        return False


def refuse_lost(path: Path) -> None:
    """Makes sure that no log was lost here: that one stands, or that there is no trace of an earlier one.

    The traces are looked for first: whoever sets the folder up meanwhile makes the log before he leaves any.

    Raises:
        LogLost: there are traces, and no log.
        OSError: the folder cannot be read.
    """
    traces = traces_of(path)
    if traces and not stands(path):
        raise lost(Place(path), traces)


def absent(place: Place) -> LogMissing:
    """Says of a log that is not there whether it is yet to be made, or was lost."""
    try:
        traces = traces_of(place.path)
    except OSError:
        traces = []
    if traces and (place.url is not None or not stands(place.path)):
        return lost(place, traces)
    where = f"no event log at {place.path}" if place.url is None else f"there is no {place.name}"
    return LogMissing(f"{where}: run `instar init` in the folder of the agent first")


def without_version(place: Place) -> LogForeign:
    """Says of a stream that it does not tell which schema it has."""
    return LogForeign(
        f"{place.name} says no version of its schema, so it is no event log of Instar, or was damaged; it was left "
        "as it is. Put the stream back from a backup."
    )


def lost(place: Place, traces: list[str]) -> LogLost:
    """Says that a log is gone, what of it is left, and what to do."""
    home = place.path.parent.absolute()
    named = home.parent.name or "agent"
    away = (home.parent.parent if home.parent.name else home.parent) / f"{named}{home.name}-lost"
    emptied = place.url is None and place.path.exists()
    name = place.path.name
    what = f"{name} and, if it has one, {name}-wal in place of those that are there"
    wal = f" Keep {name}-wal: it holds the latest events of the {name} that it belongs to." * (f"{name}-wal" in traces)
    return LogLost(
        f"the event log {place.name} {'was emptied: it has 0 bytes' if emptied else 'is gone'}, and what is left of it "
        f"is in {home}: {', '.join(traces)}.{wal} Nothing was changed. Put it back from a backup "
        f"({'the stream' if place.url else what}), then run `instar verify`. To give up what it recorded and begin "
        f"anew, first move what is left out of the agent's folder, `mv {shlex.quote(str(home))} "
        f"{shlex.quote(str(away))}`, then run `instar init`."
    )
