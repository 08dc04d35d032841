"""Serving the application on a loopback address until somebody ends it."""

from __future__ import annotations

import ipaddress
import secrets
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import uvicorn
from sse_starlette.sse import AppStatus

from instar.fsm.errors import ConfigError

from .app import build_app
from .follower import Follower

_GRACE_S = 2


class _Server(uvicorn.Server):
    """A server that ends the open streams first: they would otherwise hold it until the grace time is over."""

    def __init__(self, config: uvicorn.Config, follower: Follower) -> None:
        super().__init__(config)
        self._follower = follower

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Ends the streams, then the connections."""
        await self._follower.close()
        await super().shutdown(sockets)


def run_server(workspace: Path, *, host: str, port: int, announce: Callable[[str], None]) -> None:
    """Serves until Ctrl-C or SIGTERM; see ``instar.engine.dashboard.serve``."""
    address = _loopback(host)
    with _listening(address, port) as listener:
        bound = listener.getsockname()[1]
        token = secrets.token_urlsafe(32)
        app = build_app(workspace, token=token, port=bound, host=address)
        config = uvicorn.Config(
            app,
            lifespan="on",
            loop="asyncio",
            http="h11",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=_GRACE_S,
        )
        announce(f"http://{_in_url(host, address)}:{bound}/?token={token}")
        try:
            # uvicorn raises the signal that ended it again, once it is done.
            with suppress(KeyboardInterrupt):
                _Server(config, app.state.follower).run(sockets=[listener])
        finally:
            # sse-starlette keeps it for the process; a later server here would end its streams at once.
            AppStatus.should_exit = False


def _loopback(host: str) -> str:
    """Gives the loopback address that a host names."""
    if host == "localhost":
        return "127.0.0.1"
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        address = None
    if address is None or not address.is_loopback:
        raise ConfigError(
            f"the dashboard is served on a loopback address only, not on {host!r}: use 127.0.0.1, and an SSH tunnel "
            "(ssh -L) to look at it from another machine"
        )
    return str(address)


def _in_url(host: str, address: str) -> str:
    return host if host == "localhost" else f"[{address}]" if ":" in address else address


def _listening(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return socket.create_server((address, port), family=family, backlog=128)
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"port {port} of {address} cannot be opened: {error}. Give another --port, or 0 for a free one."
        ) from error
