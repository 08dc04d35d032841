"""Who runs the commands of shell tasks: this process, or an extension that runs them elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from instar.fsm.errors import ExtensionFailed

from .extension_calls import LONG_S, asked
from .extensions import BUILTIN, Executor
from .shell_executor import TIMED_OUT, Captured, Limits, run_captured, shortened

EXIT_CODE_MAX = 255


class BuiltinExecutor:
    """Runs a command as a process group of its own on this machine."""

    name = BUILTIN

    def run(self, command: tuple[str, ...], cwd: Path, timeout_s: float) -> Captured:
        """Runs it, see ``run_captured``."""
        return run_captured(command, cwd=cwd, limits=Limits(timeout_s=timeout_s))


class ForeignExecutor:
    """Has an extension run a command, and takes nothing from it that is no outcome.

    Args:
        extension: runs it.
    """

    def __init__(self, extension: Executor) -> None:
        self._extension = extension
        self.name = extension.name

    def run(self, command: tuple[str, ...], cwd: Path, timeout_s: float) -> Captured:
        """Runs it.

        Raises:
            ExtensionFailed: it raised something, or gave no exit code and output.
        """
        started = time.monotonic()
        who = f"the executor {self.name}"
        given = asked(who, lambda: self._extension.run(command, cwd, timeout_s), long_s=timeout_s + LONG_S)
        exit_code, output = _outcome(who, given)
        return Captured(
            command=tuple(command),
            exit_code=exit_code,
            output=output,
            timed_out=exit_code == TIMED_OUT,
            duration_s=time.monotonic() - started,
        )


def _outcome(who: str, given: object) -> tuple[int, bytes]:
    if isinstance(given, Sequence) and len(given) == 2:
        code, output = given
        if type(code) is int and 0 <= code <= EXIT_CODE_MAX and isinstance(output, bytes):
            return code, shortened(output)
    raise ExtensionFailed(f"{who} gave {given!r:.200}: have it return the exit code, 0 to 255, and the output as bytes")
