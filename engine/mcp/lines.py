"""The messages of a client: lines of a file descriptor, waited for without a thread, which a signal could not free."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import mcp_types as types
from mcp.shared.message import SessionMessage

from instar.fsm.errors import InputRefused

if TYPE_CHECKING:
    from mcp.shared._stream_protocols import WriteStream

MESSAGE_BYTES_MAX = 32 << 20
"""The longest message that is read; a client that sends a longer one is not served further."""
_CHUNK = 1 << 16
_DIGITS_MAX = 18


class Lines:
    """Gives each line that is a message; answers one that is none, since whoever waits for it would wait for ever.

    Attributes:
        answers: where that answer goes.
    """

    answers: WriteStream[SessionMessage] | None = None

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    async def __aiter__(self) -> AsyncIterator[str]:
        """Yields lines until the client closes.

        Raises:
            InputRefused: one is too long.
        """
        async for line in self._lines():
            text = line.decode("utf-8", "replace")
            try:
                types.jsonrpc_message_adapter.validate_json(text, by_name=False)
            except ValueError as error:
                if text.strip():
                    await self._refuse(text, str(error))
                continue
            yield text

    async def _lines(self) -> AsyncIterator[bytes]:
        held = bytearray()
        while chunk := await self._chunk():
            first, *others = chunk.split(b"\n")
            held += first
            for other in others:
                yield bytes(held)
                held = bytearray(other)
            if len(held) > MESSAGE_BYTES_MAX:
                raise InputRefused(f"a message of over {MESSAGE_BYTES_MAX >> 20} MiB is not read: send smaller ones")
        if held:
            yield bytes(held)

    async def _chunk(self) -> bytes:
        try:
            await anyio.wait_readable(self._descriptor)
        except PermissionError:  # a file, or the null device: there is nothing to wait for
            await anyio.lowlevel.checkpoint()
        return os.read(self._descriptor, _CHUNK)

    async def _refuse(self, text: str, reason: str) -> None:
        if self.answers is None:
            return
        told = "this is no message of JSON-RPC 2.0: give one request or notification a line"
        if "Invalid JSON" in reason:
            told = f"this is no JSON that can be read: {reason.partition('Invalid JSON: ')[2].partition(' [')[0]}"
        error = types.ErrorData(code=types.PARSE_ERROR, message=told)
        await self.answers.send(SessionMessage(types.JSONRPCError(jsonrpc="2.0", id=_id_of(text), error=error)))


def _id_of(text: str) -> int | str | None:
    """Finds out which request it was, where that much can be read."""
    try:
        whole = json.loads(text, parse_int=lambda digits: int(digits) if len(digits) <= _DIGITS_MAX else 0.0)
    except (ValueError, RecursionError):
        return None
    asked = whole.get("id") if isinstance(whole, dict) else None
    if isinstance(asked, str):
        return asked if asked.isascii() else None
    return asked if isinstance(asked, int) and not isinstance(asked, bool) else None
