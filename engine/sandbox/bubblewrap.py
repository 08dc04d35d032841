"""Bubblewrap (bwrap(1)): a file system of its own that holds what the command needs, in namespaces of its own.

Inside, ``confine.py`` sets the limits and the filter of system calls. A limit on processes counts those of its user
namespace alone there; the kernel does not hold root to it, see ``cgroup.py``.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from . import seccomp
from .places import SYSTEM, around, public
from .port import Cell
from .steps import PROGRAM, confined, limits_of

_SHARED = ("/dev/shm", "/tmp", "/var/tmp")
_SCRATCH_BYTES = 1 << 30
"""The room on each file system that lies in memory."""


class Bubblewrap:
    """Everything that the cell does not name is not there."""

    name = "bubblewrap"

    def fault(self, network: bool) -> str | None:  # noqa: ARG002 (the port's)
        """Looks for the program."""
        if shutil.which("bwrap") is None:
            return "the program bwrap is not installed: apt install bubblewrap"
        return None

    def enforced(self, cell: Cell) -> str:
        """Returns what is in force, with the network if it is left open."""
        parts = [
            "bubblewrap",
            *([] if seccomp.fault() else ["seccomp"]),
            "rlimits",
            *(["network"] if cell.network else []),
        ]
        return "+".join(parts)

    def command(self, command: Sequence[str], cell: Cell) -> list[str]:
        """Returns the command line of bwrap."""
        filtered = {} if seccomp.fault() else {"filter": seccomp.program().hex()}
        inner = confined(command, limits=limits_of(cell, counted=True), weak=True, **filtered)
        above = _above(cell)
        return [
            shutil.which("bwrap") or "bwrap",
            *("--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"),
            *([] if cell.network else ["--unshare-net"]),
            *("--die-with-parent", "--new-session", "--cap-drop", "ALL", "--hostname", "gate"),
            *("--proc", "/proc", "--dev", "/dev"),
            *(part for place in (*_SHARED, *above) for part in _in_memory(place)),
            *(part for place in _seen(cell) for part in place),
            *(part for place in ("/", *above) for part in ("--remount-ro", place)),
            *("--chdir", str(cell.folder), "--"),
            *inner,
        ]


def _in_memory(place: str) -> tuple[str, ...]:
    return ("--perms", "1777", "--size", str(_SCRATCH_BYTES), "--tmpfs", place)


def _above(cell: Cell) -> list[str]:
    """Gives the folders in the shared ones that only lead to what the cell names: in memory, and sealed."""
    named = (*cell.readable, *cell.writable, cell.folder, cell.home, PROGRAM)
    found: dict[str, None] = {}
    for shared in map(Path, _SHARED):
        for path in (place for place in named if place.parent.is_relative_to(shared) and place.parent != shared):
            found[str(shared / path.relative_to(shared).parts[0])] = None
    return [place for place in found if Path(place) not in named]


def _seen(cell: Cell) -> Iterator[tuple[str, ...]]:
    """Yields what is bound where, a folder before what lies in it."""
    for name in SYSTEM:
        place = Path(name)
        if place.is_symlink():
            yield ("--symlink", str(place.readlink()), name)
        elif place.is_dir():
            yield from (("--ro-bind-try", str(part), str(part)) for part in around(place, cell.own.parent))
    for place in public(Path("/etc")):
        if place.is_symlink():
            yield ("--symlink", str(place.readlink()), str(place))
        else:
            yield ("--ro-bind-try", str(place), str(place))
    yield ("--ro-bind-try", "/sys/devices/system", "/sys/devices/system")
    if cell.network:  # names of hosts are looked up by a file that /etc only links to
        names = str(Path("/etc/resolv.conf").resolve())
        yield ("--ro-bind-try", names, names)
    placed = [
        *((str(place), "--dev-bind-try" if place.is_char_device() else "--ro-bind-try") for place in cell.readable),
        *((str(place), "--dev-bind-try" if place.is_char_device() else "--bind-try") for place in cell.writable),
        (str(PROGRAM), "--ro-bind"),
        (str(cell.folder), "--bind"),
        (str(cell.home), "--bind"),
    ]
    for path, how in (*sorted(placed[:-2], key=lambda item: item[0].count("/")), *placed[-2:]):
        yield (how, path, path)
