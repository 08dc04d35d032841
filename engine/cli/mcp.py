"""``instar mcp``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .output import Root, say, workspace_at


def command(
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="[WORKSPACE]", help="The folder of the agent; by default the nearest one that has a log."
        ),
    ] = None,
    allow_changes: Annotated[
        bool, typer.Option("--allow-changes", help="Offer the tools that record or change something too.")
    ] = False,
    workspace: Root = None,
) -> None:
    """Serve this workspace to a client of the Model Context Protocol, over standard input and output.

    Standard output holds the protocol alone. It ends when the client closes standard input, and on Ctrl-C.
    """
    from instar.engine.mcp import serve
    from instar.fsm.errors import ConfigError

    if folder is not None and workspace is not None:
        raise ConfigError(f"the workspace is named twice, as {folder} and as {workspace}: leave one out")
    root = workspace_at(folder or workspace).root
    say(f"serving {root}{'' if allow_changes else ', for reading alone'}; it ends when the client closes, or by Ctrl-C")
    serve(root, may_change=allow_changes)
