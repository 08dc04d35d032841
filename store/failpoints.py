"""Named places at which a test makes the process die or the disk fail.

``INSTAR_FAILPOINTS="restore.step=kill@3,restore.staged=error"`` kills the process with SIGKILL at the third pass of
``restore.step`` and raises ENOSPC at the first of ``restore.staged``. The variable is read once, at import.
"""

from __future__ import annotations

import errno
import os
import re
import signal

from instar.fsm.errors import ConfigError

_SPEC = re.compile(r"([\w.]+)=(kill|error)(?:@([1-9]\d*))?")


class _Armed:
    """What a failpoint does, and how many passes from now."""

    def __init__(self, action: str, passes_left: int) -> None:
        self.action = action
        self.passes_left = passes_left


_armed: dict[str, _Armed] = {}


def arm(spec: str) -> None:
    """Arms the failpoints of ``spec`` and disarms all others; an empty ``spec`` disarms every one.

    Raises:
        ConfigError: ``spec`` is no list of ``name=kill``, ``name=error`` or ``name=kill@3``.
    """
    armed: dict[str, _Armed] = {}
    for part in filter(None, spec.split(",")):
        found = _SPEC.fullmatch(part.strip())
        if found is None:
            raise ConfigError(
                f"INSTAR_FAILPOINTS: {part!r} is not understood; write name=kill, name=error or name=kill@3."
            )
        armed[found[1]] = _Armed(found[2], int(found[3] or 1))
    _armed.clear()
    _armed.update(armed)


def failpoint(name: str) -> None:
    """Passes a named place; does nothing unless a test armed it.

    Raises:
        OSError: ENOSPC, when armed with ``error``.
    """
    if _armed:
        _pass(name)


def _pass(name: str) -> None:
    point = _armed.get(name)
    if point is None:
        return
    point.passes_left -= 1
    if point.passes_left:
        return
    if point.action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)} (failpoint {name})")


arm(os.environ.get("INSTAR_FAILPOINTS", ""))
