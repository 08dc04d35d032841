"""The interpreter of this process, for processes of our own beside it."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from instar.fsm.errors import ConfigError

_WORKER: Final = """
import sys
sys.path += [place for place in sys.argv[2:] if place not in sys.path]
from instar.engine.worker import main
sys.exit(main([sys.argv[1], "--with-parent"]))
"""


def own_python(*arguments: str) -> list[str]:
    """Gives a command that runs this interpreter on what is ours, whatever lies in the folder that it stands in.

    Python looks there first otherwise, before its own library: an agent's ``queue.py`` would run in place of that.

    Raises:
        ConfigError: this process is a program with an interpreter in it, which can start no other one.
    """
    if getattr(sys, "frozen", False) or not sys.executable:
        raise ConfigError(
            f"this program ({sys.executable or sys.argv[0]}) has its interpreter in it, and none can be started "
            "beside it: use Engine(…, worker=False), and let `instar run`, installed apart, be the worker."
        )
    return [sys.executable, "-I" if sys.flags.isolated else "-P", *arguments]


def worker_command(root: Path) -> list[str]:
    """Gives the command of a worker that ends with this process, and finds what this one can import.

    The places of this process come last, so that a plugin beside the agent is found, and nothing there hides a module
    of the library or of an installed package.

    Raises:
        ConfigError: as ``own_python``.
    """
    places = []
    for place in sys.path:
        with suppress(OSError, TypeError):  # a folder that is gone; what is no path
            places.append(str(Path(os.fsdecode(place)).absolute()))
    return own_python("-c", _WORKER, str(root), *dict.fromkeys(places))
