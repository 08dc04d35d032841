"""One task that watches the log, and any number of clients that are told.

A client keeps no queue: it remembers the last position that it was told of, and is told the difference when it next
listens. A slow client therefore misses no event and costs nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import anyio.to_thread
import msgspec

from .overview import Overview, overview
from .view import LogView

logger = logging.getLogger("instar.dashboard")

INTERVAL_S = 0.25
CLIENTS_MAX = 64
_OVERVIEW_EVERY = 8


class Follower:
    """Polls one log every 250 ms, for all clients.

    The poll is one PRAGMA; the worker's lock and its progress report are looked at when the log moved, and every two
    seconds.
    """

    def __init__(self, view: LogView) -> None:
        self._view = view
        self._changed = asyncio.Condition()
        self._closing = asyncio.Event()
        self._version = 0
        self._latest: Overview | None = None
        self.clients = 0

    async def run(self) -> None:
        """Watches until ``close``."""
        ticks = 0
        while not self._closing.is_set():
            try:
                await self._tick(look=ticks % _OVERVIEW_EVERY == 0)
            except Exception:
                # The page must say that it cannot follow, and try again: it is what people look at when things break.
                logger.exception("the log could not be followed")
            ticks += 1
            try:
                await asyncio.wait_for(self._closing.wait(), INTERVAL_S)
            except TimeoutError:
                continue

    async def close(self) -> None:
        """Ends the task and every client's stream."""
        self._closing.set()
        async with self._changed:
            self._changed.notify_all()

    async def _tick(self, *, look: bool) -> None:
        await anyio.to_thread.run_sync(self._view.refresh)
        last = self._latest
        busy = last is not None and last.owed is not None
        if look or busy or last is None or last.head != self._view.head or last.problem != self._view.problem:
            latest = await anyio.to_thread.run_sync(overview, self._view)
            if latest != last:
                async with self._changed:
                    self._latest = latest
                    self._version += 1
                    self._changed.notify_all()

    async def stream(self, seen: int | None) -> AsyncIterator[dict[str, Any]]:
        """Yields ``state`` and ``events`` messages for one client.

        Args:
            seen: the last position that the client knows; None for the present head.
        """
        self.clients += 1
        told = -1
        try:
            while True:
                async with self._changed:
                    while not self._closing.is_set() and (self._latest is None or self._version == told):
                        await self._changed.wait()
                    latest, told = self._latest, self._version
                if self._closing.is_set() or latest is None:
                    return
                yield {"event": "state", "id": str(latest.head), "data": _json(latest)}
                if seen is not None and seen != latest.head:
                    types = self._view.types_between(seen, latest.head)
                    news = {"first": seen + 1, "last": latest.head, "types": types}
                    yield {"event": "events", "id": str(latest.head), "data": _json(news)}
                seen = latest.head
        finally:
            self.clients -= 1


def _json(value: Any) -> str:
    return msgspec.json.encode(value, enc_hook=str).decode()
