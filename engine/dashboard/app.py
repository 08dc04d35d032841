"""The application: its parts, its routes, its life."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from instar.fsm.errors import ConfigError, InstarError

from .api import Api
from .follower import Follower
from .guard import Guard
from .memory_map import MemoryMaps
from .pages import Pages
from .view import LogView

_STATIC = Path(__file__).with_name("static")


def build_app(workspace: Path, *, token: str, port: int, host: str = "127.0.0.1") -> Starlette:
    """Builds the application; ``app.state.follower`` is its follower, ``app.state.view`` its open log.

    Raises:
        ConfigError: the token is empty.
        LogMissing: there is no log.
    """
    if not token:
        raise ConfigError("an empty token would let everyone in: give a random one, such as secrets.token_urlsafe()")
    view = LogView(workspace)
    follower = Follower(view)
    api = Api(view, MemoryMaps(view.reader, view.blobs), follower)
    pages = Pages(view)

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        following = asyncio.create_task(follower.run())
        try:
            yield
        finally:
            await follower.close()
            await following
            view.close()

    app = Starlette(
        routes=[
            *pages.routes(),
            *api.routes(),
            Mount("/static", StaticFiles(directory=_STATIC), name="static"),
        ],
        middleware=[Middleware(Guard, token=token, port=port, host=host)],
        exception_handlers={InstarError: _unreadable, HTTPException: _refused},
        lifespan=lifespan,
    )
    app.state.follower, app.state.view = follower, view
    return app


async def _unreadable(_request: Request, error: Exception) -> Response:
    return PlainTextResponse(str(error), 503)


async def _refused(_request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        return PlainTextResponse(error.detail, error.status_code)
    return PlainTextResponse("refused", 400)
