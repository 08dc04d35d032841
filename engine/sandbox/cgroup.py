"""A control group for one gate (cgroups(7)): it bounds the number of its processes, root's too, and ends them all.

Used where this process may make one beside its own: as root, in a container with groups of its own, or where the
system's service manager left a part of the tree to the user. Elsewhere a gate has none, and its record names none.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_WAIT_S = 2.0
_FOLDER = re.compile(r"\\([0-7]{3})")


@contextmanager
def counted(processes: int) -> Iterator[Path | None]:
    """Makes a group of at most so many processes and threads; behind the block whatever is left in it is killed.

    Gives the folder of the group, or None where none can be made.
    """
    group = _made(processes)
    try:
        yield group
    finally:
        if group is not None:
            end(group)


def available() -> bool:
    """Says whether a group can be made, by making one."""
    with counted(1) as group:
        return group is not None


def _made(processes: int) -> Path | None:
    for parent in _parents():
        group = parent / f"instar-gate-{os.getpid()}-{time.monotonic_ns()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / "pids.max").write_text(str(processes))
            if not os.access(parent / "cgroup.procs", os.W_OK):
                raise PermissionError("no process of this group may be moved")
        except OSError:
            with contextlib.suppress(OSError):
                group.rmdir()
            continue
        return group
    return None


def _parents() -> Iterator[Path]:
    """Yields the folders in which a group may be made: where processes are counted, beside and below our own."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        groups = Path("/proc/self/cgroup").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return
    for line in mounts:
        fields, _, kind = line.partition(" - ")
        name, _, options = kind.split(" ", 2)
        pids = name == "cgroup" and "pids" in options.split(",")
        if not pids and name != "cgroup2":
            continue
        root, mounted = (_FOLDER.sub(lambda m: chr(int(m[1], 8)), text) for text in fields.split(" ")[3:5])
        for own in groups:
            number, controllers, path = own.split(":", 2)
            if ("pids" in controllers.split(",")) if pids else number == "0":
                beneath = path.removeprefix(root) if root != "/" else path
                here = Path(mounted) / beneath.lstrip("/")
                yield from (here.parent, here) if name == "cgroup2" and here != Path(mounted) else (here,)


def end(group: Path) -> None:
    """Kills whoever is in a group, until nobody is, and removes it; one that is gone already is no fault."""
    deadline = time.monotonic() + _WAIT_S
    with contextlib.suppress(OSError):
        (group / "pids.max").write_text("0")
    while True:
        with contextlib.suppress(OSError):
            (group / "cgroup.kill").write_text("1")
        with contextlib.suppress(OSError):
            for pid in map(int, (group / "cgroup.procs").read_text().split()):
                if pid > 0:  # 0 is one of another process namespace, and would mean our own group here
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.kill(pid, signal.SIGKILL)
        try:
            group.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            if time.monotonic() > deadline:
                return
            time.sleep(0.005)
        else:
            return
