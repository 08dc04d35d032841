"""A sandbox of another package: what it raises is told as its failure, and what it gives is looked at before use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from instar.engine.extension_calls import asked
from instar.fsm.errors import ExtensionFailed

from .port import Cell, Sandbox

_ENFORCED_CHARS_MAX: Final = 200


class Foreign:
    """Stands before a sandbox that an extension made.

    Args:
        sandbox: what was made; its name was looked at.
    """

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self.name = sandbox.name

    def fault(self, network: bool) -> str | None:
        """Returns why this machine cannot run it, also where the sandbox itself fails."""
        try:
            found = self._asked("fault", lambda: self._sandbox.fault(network))
        except ExtensionFailed as error:
            return str(error)
        if found is None or isinstance(found, str):
            return found
        return f"fault of the sandbox {self.name} gave something else than a text or None"

    def enforced(self, cell: Cell) -> str:
        """Returns what is in force, as the log records it.

        Raises:
            ExtensionFailed: it failed, or gave no text that can be recorded.
        """
        found = self._asked("enforced", lambda: self._sandbox.enforced(cell))
        if not isinstance(found, str) or not found.isprintable() or not 0 < len(found) <= _ENFORCED_CHARS_MAX:
            raise self._wrong("enforced", f"1 to {_ENFORCED_CHARS_MAX} printable characters")
        return found

    def command(self, command: Sequence[str], cell: Cell) -> list[str]:
        """Returns the command line that runs a command in a cell.

        Raises:
            ExtensionFailed: it failed, or gave no command line.
        """
        found = self._asked("command", lambda: self._sandbox.command(command, cell))
        if not isinstance(found, list | tuple) or not found or not all(isinstance(part, str) for part in found):
            raise self._wrong("command", "a list of texts, the program first")
        return list(found)

    def _asked(self, question: str, call: Callable[[], object]) -> object:
        return asked(f"{question} of the sandbox {self.name}", call)

    def _wrong(self, question: str, wanted: str) -> ExtensionFailed:
        return ExtensionFailed(
            f"{question} of the sandbox {self.name} gave something else than {wanted}: mend it, or set "
            "mutation.sandbox to auto."
        )
