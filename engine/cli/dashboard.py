"""``instar dashboard``."""

from __future__ import annotations

from typing import Annotated

import typer

from .output import Json, Root, emit, say, workspace_at


def command(
    host: Annotated[str, typer.Option(help="A loopback address; no other is served.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 0,
    workspace: Root = None,
    json: Json = False,
) -> None:
    """Serve a local page, live: the states, the events, the memory as a map, losses, rewards. Ctrl-C ends it."""
    from instar.engine.dashboard import serve

    def announce(url: str) -> None:
        emit("dashboard", {"url": url}, as_json=json, lines=[url])
        if not json:
            say("open this address in a browser on this machine; Ctrl-C ends it")

    serve(workspace_at(workspace).root, host=host, port=port, announce=announce)
