"""Serves over standard input and output until the client closes, Ctrl-C or SIGTERM; nothing else is printed there."""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path
from typing import cast

import anyio
from mcp.server.stdio import stdio_server

from instar.engine.cli.output import workspace_at
from instar.engine.workspace import Workspace
from instar.fsm.errors import InputRefused

from .lines import Lines
from .server import build


def run_server(root: Path, *, may_change: bool) -> None:
    """Serves a workspace.

    Raises:
        LogMissing: there is none.
        InputRefused: the client sent more than can be a message.
    """
    workspace = workspace_at(root)
    try:
        anyio.run(partial(_serve, workspace, may_change=may_change))
    except BaseExceptionGroup as group:
        refused, _ = group.split(InputRefused)
        if refused is not None:
            raise _first(refused) from None
        gone, others = group.split((BrokenPipeError, ConnectionResetError))
        if others is not None or gone is None:
            raise


def _first(group: BaseExceptionGroup[InputRefused]) -> InputRefused:
    one = group.exceptions[0]
    return _first(one) if isinstance(one, BaseExceptionGroup) else one


async def _serve(workspace: Workspace, *, may_change: bool) -> None:
    server = build(workspace, may_change=may_change)
    given = os.dup(0)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)  # no verb reads the protocol
    os.close(empty)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_until_signal, tasks.cancel_scope)
            lines = Lines(given)
            async with stdio_server(stdin=cast("anyio.AsyncFile[str]", lines)) as (received, sent):
                lines.answers = sent
                await server.run(received, sent, server.create_initialization_options())
            tasks.cancel_scope.cancel()
    finally:
        os.close(given)


async def _until_signal(serving: anyio.CancelScope) -> None:
    """Ends the serving at the first signal; at a second one, the process, whatever it waits for."""
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            serving.cancel()
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
