"""The command line of ``confine.py``: which steps it takes before it becomes the command."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from .port import Cell

PROGRAM: Final = Path(__file__).resolve().with_name("confine.py")


def confined(command: Sequence[str], **steps: Any) -> list[str]:
    """Gives the command line that takes some steps and becomes a command."""
    return [sys.executable, "-I", "-S", str(PROGRAM), json.dumps(steps), *command]


def limits_of(cell: Cell, *, counted: bool) -> dict[str, int]:
    """Gives the resource limits of a cell by their names.

    Args:
        cell: what the command may use.
        counted: whether it has a user namespace of its own. Elsewhere a limit on processes would count all that the
            user runs, on the whole machine.
    """
    limits = {
        "RLIMIT_CORE": 0,
        "RLIMIT_AS": cell.memory_bytes,
        "RLIMIT_NOFILE": cell.open_files,
        "RLIMIT_FSIZE": cell.file_bytes,
    }
    return {**limits, "RLIMIT_NPROC": cell.processes} if counted else limits
