"""``instar mcp``: the engine of one workspace as tools of the Model Context Protocol, over standard input and output.

The protocol's package is an extra of the installation; it is imported only when a server is made.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from instar.fsm.errors import ConfigError

__all__ = ["serve"]


def serve(root: Path, *, may_change: bool = False) -> None:
    """Serves the tools of a workspace until the client closes standard input, Ctrl-C or SIGTERM.

    Args:
        root: the folder of the agent.
        may_change: offer the tools that record or change something too.

    Raises:
        ConfigError: the packages of the extra are not installed.
    """
    if find_spec("mcp") is None:
        raise ConfigError("the MCP server needs the package mcp: run `pip install 'instar[mcp]'`")
    from .serving import run_server

    run_server(root, may_change=may_change)
