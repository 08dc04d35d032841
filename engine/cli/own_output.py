"""Refuses an output that goes into the folder under watch: each line would be a change, which would be told there."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from instar.fsm.policy import CapturePolicy

_STREAMS = ((1, "standard output"), (2, "standard error"))


def refuse_watched_output(root: Path, rules: CapturePolicy | None) -> None:
    """Makes sure that what a command tells of events is not itself recorded as changes.

    Args:
        root: the folder of the agent.
        rules: what is left out of its trees; the built-in rules where none were recorded.

    Raises:
        ConfigError: standard output or error is a file in the folder that is captured.
    """
    for number, name in _STREAMS:
        path = _file_of(number)
        if path is not None and path.is_relative_to(root.resolve()):
            _refuse_captured(root.resolve(), path, name, rules)


def _file_of(number: int) -> Path | None:
    """Gives the path of the regular file that a descriptor writes to; None where it writes to nothing of that kind."""
    try:
        status = os.fstat(number)
        path = Path(f"/proc/self/fd/{number}").readlink()
        return path if stat.S_ISREG(status.st_mode) and os.path.samestat(path.stat(), status) else None
    except OSError:
        return None


def _refuse_captured(root: Path, path: Path, name: str, rules: CapturePolicy | None) -> None:
    from instar.engine.trees.ignore import Ignore, left_out_by
    from instar.engine.trees.quick_look import GITIGNORE
    from instar.fsm.errors import ConfigError
    from instar.store.paths import decode_path, encode_path

    def rules_in(folder: str) -> bytes | None:
        try:
            return (root / os.fsdecode(decode_path(folder)) / GITIGNORE).read_bytes()
        except OSError:
            return None

    within = path.relative_to(root)
    if left_out_by(rules_in, Ignore(recorded=rules))(encode_path(os.fsencode(within))) is None:
        raise ConfigError(
            f"{name} goes to {path}, in the folder that is watched: each line there would be recorded as a change, and "
            "told there again, without end. "
            "Send it to a file outside of the folder, or to one that [watch] ignore names."
        )
