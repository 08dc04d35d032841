"""Landlock (landlock(7)), a filter of system calls, and namespaces where a user may make them.

Landlock lets the command read and write what its cell names and nothing else; unlike bubblewrap it leaves the rest to
be seen by name (a path can be asked for its size and times). Without a network namespace the filter refuses every
socket that leads out. Sockets with a path are refused always: Landlock would let the command connect to the services of
this machine. Landlock guards no mode, owner, time or extended attribute of a file: in namespaces all but what may be
written is mounted read-only besides; without them a command can change those of the files that its user owns.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from . import seccomp
from .places import DEVICES, SYSTEM, around, public
from .port import Cell
from .steps import confined, limits_of

_CREATE_RULESET = 444
_VERSION = 1
ABI_MIN = 3
"""Linux 6.2. Older ones let a file anywhere be cut to nothing."""
_ABI_NETWORK, _ABI_IOCTL, _ABI_SCOPES = 4, 5, 6
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_TRUNCATE, _IOCTL = 1 << 14, 1 << 15
_ALL_OF_ABI_3 = (1 << 15) - 1
_DEVICE_NODES = (1 << 6) | (1 << 11)
_TCP = 0b11  # bind and connect
_SCOPES = 0b11  # sockets without a path, and signals
_READS = _EXECUTE | _READ_FILE | _READ_DIR
_NAMESPACES = 0x00020000 | 0x20000000 | 0x08000000 | 0x04000000  # mounts, processes, ipc, uts
_NETWORK = 0x40000000


@lru_cache
def abi() -> int:
    """Gives the version of Landlock that the kernel has; 0 where there is none."""
    libc = ctypes.CDLL(None, use_errno=True)
    number, nothing, size, flags = (ctypes.c_long(value) for value in (_CREATE_RULESET, 0, 0, _VERSION))
    version: int = libc.syscall(number, nothing, size, flags)
    return max(version, 0)


class Landlock:
    """What the cell does not name cannot be opened.

    Args:
        namespaces: whether the command gets namespaces of its own (processes, network, shared memory). Some systems
            forbid them to users.
    """

    name = "landlock"

    def __init__(self, *, namespaces: bool) -> None:
        self._namespaces = namespaces

    def fault(self, network: bool) -> str | None:
        """Asks the kernel for its version."""
        version = abi()
        if version < ABI_MIN:
            had = f"version {version}" if version else "none"
            return f"the kernel has {had} of Landlock: Linux 6.2 or newer is needed, with landlock in its `lsm=` list"
        if not self._namespaces and version < _ABI_SCOPES:
            return "Landlock keeps signals in from Linux 6.12 on alone, and the user may make no namespaces"
        if not self._namespaces and not network and seccomp.fault():
            return f"{seccomp.fault()}, and the user may make no network namespace"
        return None

    def enforced(self, cell: Cell) -> str:
        """Returns what is in force, with the version of Landlock."""
        parts = [f"landlock{abi()}"]
        if not seccomp.fault():
            parts.append("seccomp")
        if self._namespaces:
            parts += ["pidns"] if cell.network else ["pidns", "netns"]
        return "+".join([*parts, "rlimits", *(["network"] if cell.network else [])])

    def command(self, command: Sequence[str], cell: Cell) -> list[str]:
        """Returns the command line that takes the steps and becomes the command."""
        steps: dict[str, Any] = {"limits": limits_of(cell, counted=self._namespaces), "weak": True}
        if self._namespaces:
            steps["namespaces"] = {
                "flags": _NAMESPACES | (0 if cell.network else _NETWORK),
                "writable": [str(place) for place in (*cell.writable, cell.folder, cell.home)],
            }
        own_network = self._namespaces or cell.network
        steps["landlock"] = {"attributes": self._attributes(own_network).hex(), "rules": self._rules(cell)}
        if not seccomp.fault():
            families = seccomp.LOCAL if own_network else (*seccomp.LOCAL, *seccomp.ABROAD)
            steps["filter"] = seccomp.program(families).hex()
        return confined(command, **steps)

    def _attributes(self, own_network: bool) -> bytes:
        version = abi()
        parts = [_handled(version)]
        if version >= _ABI_NETWORK:
            parts.append(0 if own_network else _TCP)
        if version >= _ABI_SCOPES:
            parts.append(_SCOPES)
        return struct.pack(f"={len(parts)}Q", *parts)

    def _rules(self, cell: Cell) -> list[tuple[str, int]]:
        everything = _handled(abi()) & ~_DEVICE_NODES
        system = (part for place in SYSTEM for part in around(Path(place), cell.own.parent))
        looked_at = [*map(str, (*system, *public(Path("/etc")))), "/proc", "/sys/devices/system"]
        if cell.network:
            looked_at.append("/etc/resolv.conf")
        rules = [(place, _READS) for place in looked_at]
        rules += [(device, _WRITE_FILE | _READ_FILE | _TRUNCATE) for device in DEVICES]
        if self._namespaces:
            rules.append(("/dev/shm", everything))
        rules += [(str(place), _READS | (_handled(abi()) & _IOCTL)) for place in cell.readable]
        return rules + [(str(place), everything) for place in (*cell.writable, cell.folder, cell.home)]


def _handled(version: int) -> int:
    return _ALL_OF_ABI_3 | (_IOCTL if version >= _ABI_IOCTL else 0)
