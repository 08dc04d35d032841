"""Runs calls for a server: short ones in a thread, the others in a process that is ended when the client gives up."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Awaitable, Callable
from contextlib import suppress

import anyio
import anyio.abc
import msgspec

from instar.engine.cli.failures import Failure
from instar.engine.own_python import own_python
from instar.engine.progress import Progress, read_progress
from instar.engine.workspace import Workspace

from .apart import Order
from .calling import Envelope, call, failed
from .tool import Tool, name_of

logger = logging.getLogger("instar.engine")

Report = Callable[[float, str], Awaitable[None]]
"""Tells the client that a call goes on: a number that grows, and words."""

CALLS_MAX = 4
"""How many calls run at once; further ones wait."""
_LOOK_S = 0.5
_STILL_S = 10.0
"""How often a client hears of a call that has nothing new to report."""
_END_S = 10.0


class Runner:
    """Runs the calls of one server.

    Args:
        workspace: the workspace that is served.
        may_change: whether a call may record or change something.
    """

    def __init__(self, workspace: Workspace, *, may_change: bool) -> None:
        self._workspace = workspace
        self._may_change = may_change
        self._limit = anyio.CapacityLimiter(CALLS_MAX)

    async def run(self, tool: Tool, report: Report) -> Envelope:
        """Runs one call and gives its envelope."""
        if not tool.apart:
            return await anyio.to_thread.run_sync(self._here, tool, limiter=self._limit)
        async with self._limit:
            return await self._apart(tool, report)

    def _here(self, tool: Tool) -> Envelope:
        return call(tool, self._workspace.root, may_change=self._may_change)

    async def _apart(self, tool: Tool, report: Report) -> Envelope:
        order = Order(
            root=str(self._workspace.root),
            name=name_of(type(tool)),
            arguments={name: getattr(tool, name) for name in tool.__struct_fields__},
            may_change=self._may_change,
        )
        command = own_python("-m", "instar.engine.mcp.apart")
        async with await anyio.open_process(command, stdin=subprocess.PIPE, stderr=None) as process:
            try:
                assert process.stdin is not None
                await process.stdin.send(msgspec.json.encode(order) + b"\n")
                async with anyio.create_task_group() as tasks:
                    if tool.reports:
                        tasks.start_soon(self._report, name_of(type(tool)), process.pid, report)
                    else:
                        tasks.start_soon(self._report, name_of(type(tool)), None, report)
                    written = await _read(process)
                    tasks.cancel_scope.cancel()
            finally:
                with anyio.CancelScope(shield=True):
                    await _end(process)
        try:
            found: Envelope = msgspec.json.decode(written)
        except msgspec.DecodeError:
            told = f"the process of this call ended with {process.returncode} before it was done. What was recorded "
            return failed(Failure("EffectFailedError", f"{told}stays recorded; `instar status` says what is owed.", 1))
        return found

    async def _report(self, name: str, pid: int | None, report: Report) -> None:
        """Reports what the process says of its progress; or, now and then, that it is still at work."""
        last: Progress | None = None
        still_at = anyio.current_time() + _STILL_S
        number = 0
        while True:
            await anyio.sleep(_LOOK_S)
            found = read_progress(self._workspace.progress) if pid is not None else None
            if found is not None and found.pid == pid and found != last:
                last, counted = found, f" {found.step}/{found.steps}" if found.steps else ""
                words = f"{found.effect}{counted} {found.note}".strip()
            elif anyio.current_time() >= still_at:
                words = f"{name} is at work"
            else:
                continue
            number += 1
            still_at = anyio.current_time() + _STILL_S
            await report(number, words)


async def _read(process: anyio.abc.Process) -> bytes:
    assert process.stdout is not None
    written = bytearray()
    async for chunk in process.stdout:
        written += chunk
    return bytes(written)


async def _end(process: anyio.abc.Process) -> None:
    """Has a process end as by Ctrl-C, and kills one that does not."""
    if process.stdin is not None:
        with suppress(OSError, anyio.BrokenResourceError):
            await process.stdin.aclose()
    with anyio.move_on_after(_END_S):
        await process.wait()
        return
    logger.warning("the process of a call did not end when it was told to, and was killed")
    process.kill()
    await process.wait()
