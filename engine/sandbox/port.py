"""The port: what a gate asks of a sandbox, and what a sandbox must be able to do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from msgspec import Struct


class Cell(Struct, frozen=True, kw_only=True):
    """What one command may see and use; whatever is not named here, it may not."""

    folder: Path
    """The copy of the tree. The command starts in it and may write to it."""
    home: Path
    """Its HOME and TMPDIR, which it may write to."""
    own: Path
    """The workspace's ``.instar``, which it sees nothing of but the two folders above."""
    readable: tuple[Path, ...] = ()
    """What it may read and run besides the system's programs: interpreters, their packages, and what settings add."""
    writable: tuple[Path, ...] = ()
    network: bool = False
    memory_bytes: int = 8 * 1024**3
    """Address space of each process."""
    open_files: int = 1024
    processes: int = 1024
    """Processes and threads, where they can be counted for this command alone."""
    file_bytes: int = 4 * 1024**3
    """The largest file that it may write."""


class Sandbox(Protocol):
    """Confines a command."""

    @property
    def name(self) -> str:
        """What settings call this sandbox."""

    def fault(self, network: bool) -> str | None:
        """Returns why this machine cannot run it, and what to do about that; None if it seems to be able to."""

    def enforced(self, cell: Cell) -> str:
        """Returns what is in force in a cell, as the log records it, such as ``bubblewrap+seccomp+rlimits``."""

    def command(self, command: Sequence[str], cell: Cell) -> list[str]:
        """Returns the command line that runs a command in a cell. It must die with its process group."""
