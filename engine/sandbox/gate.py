"""Runs a gate in the sandbox of the settings, and says what was in force."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from instar.engine.settings import MutationSettings
from instar.engine.shell_executor import Captured, Limits, run_captured
from instar.engine.workspace import Workspace

from .cgroup import counted, end
from .choose import chosen
from .places import check_listed, installed_from, listed, needed, without_own
from .port import Cell
from .steps import confined

NONE = "none"
"""Recorded where nothing was run."""


class Ran(Struct, frozen=True, kw_only=True):
    """What a gate said, and what confined it."""

    captured: Captured
    sandbox: str


def environment(home: Path, folder: Path, workspace: Workspace) -> dict[str, str]:
    """Gives the environment of a gate. What is installed from the workspace is imported from the copy instead."""
    environ = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(home),
        "TMPDIR": str(home),
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
        "HF_HUB_OFFLINE": "1",
    }
    sources = [str(folder / place) for place in installed_from(workspace.root) if (folder / place).is_dir()]
    return {**environ, "PYTHONPATH": os.pathsep.join(sources)} if sources else environ


def run_gate(
    command: Sequence[str], *, folder: Path, home: Path, workspace: Workspace, settings: MutationSettings
) -> Ran:
    """Runs a gate in a copy of the tree, and waits for its end.

    Args:
        command: the program and its arguments.
        folder: the copy.
        home: a folder for whatever else it writes.
        workspace: whose log it must not see.
        settings: which sandbox, and what it lets through.

    Raises:
        ConfigError: there is no such program, or the sandbox that is named cannot be used, or a path that is to be
            let through leads to the workspace.
    """
    check_listed(settings.readable, settings.writable, workspace.root)
    sandbox = chosen(settings)
    environ = environment(home, folder, workspace)
    cell = Cell(
        folder=folder,
        home=home,
        own=workspace.home,
        readable=(
            *needed(command[0] if command else "", environ, workspace.root),
            *(part for place in listed(settings.readable, workspace.root) for part in without_own(place)),
        ),
        writable=listed(settings.writable, workspace.root),
        network=settings.network,
        memory_bytes=settings.memory_bytes,
        processes=settings.processes,
        file_bytes=settings.file_bytes,
    )
    limits = Limits(timeout_s=settings.timeout_s)
    with counted(settings.processes) as group:

        def within(command: Sequence[str]) -> Sequence[str]:
            inner = sandbox.command(command, cell)
            return confined(inner, cgroup=str(group)) if group else inner

        def killed() -> None:
            if group:
                end(group)

        captured = run_captured(command, cwd=folder, limits=limits, environ=environ, within=within, killed=killed)
    return Ran(captured=captured, sandbox=sandbox.enforced(cell) + ("+cgroup" if group else ""))
