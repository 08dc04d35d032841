"""``instar dashboard``: one local, live, read-only page over the log of a workspace.

The page's packages are an extra of the installation; they are imported only when a dashboard is made.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from instar.fsm.errors import ConfigError

if TYPE_CHECKING:
    from starlette.applications import Starlette

__all__ = ["create_app", "serve"]

_PACKAGES = ("starlette", "uvicorn", "jinja2", "sse_starlette")


def create_app(workspace: Path, token: str, port: int) -> Starlette:
    """Builds the dashboard of a workspace as an ASGI application.

    Args:
        workspace: the folder of the agent; its log is at ``.instar/log.db``.
        token: what a browser must present once, as ``/?token=…``, before anything is shown.
        port: the port that a request's Host header must name.

    Raises:
        ConfigError: the packages of the extra are not installed, or the token is empty.
        LogMissing: there is no log.
    """
    _require_packages()
    from .app import build_app

    return build_app(workspace, token=token, port=port)


def serve(workspace: Path, *, host: str = "127.0.0.1", port: int = 0, announce: Callable[[str], None]) -> None:
    """Serves the dashboard until Ctrl-C or SIGTERM.

    Args:
        workspace: the folder of the agent.
        host: a loopback address, or ``localhost``.
        port: 0 takes a free one.
        announce: called once, with the address to open; it holds the token of this start.

    Raises:
        ConfigError: the host is no loopback address, the port is taken, or the packages of the extra are not installed.
        LogMissing: there is no log.
    """
    _require_packages()
    from .serving import run_server

    run_server(workspace, host=host, port=port, announce=announce)


def _require_packages() -> None:
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise ConfigError(f"the dashboard needs {', '.join(missing)}: run `pip install 'instar[dashboard]'`")
