"""Limits on memory, open files and the size of a file, and nothing else: what every machine has."""

from __future__ import annotations

from collections.abc import Sequence

from .port import Cell
from .steps import confined, limits_of

RLIMITS = "rlimits"


class Rlimits:
    """Confines nothing: the command reads, writes and connects as whoever runs it may."""

    name = RLIMITS

    def fault(self, network: bool) -> str | None:  # noqa: ARG002 (the port's)
        """Finds nothing amiss: it works everywhere."""
        return None

    def enforced(self, cell: Cell) -> str:  # noqa: ARG002 (the port's)
        """Returns ``rlimits``."""
        return RLIMITS

    def command(self, command: Sequence[str], cell: Cell) -> list[str]:
        """Returns the command line that sets the limits and becomes the command."""
        return confined(command, limits=limits_of(cell, counted=False))
