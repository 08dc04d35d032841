"""The JSON endpoints, and the stream that says when to ask again."""

from __future__ import annotations

import msgspec
from sse_starlette.sse import EventSourceResponse
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from . import asking
from .follower import CLIENTS_MAX, Follower
from .memory_map import MemoryMaps
from .overview import overview, plan_of
from .rows import detail_of, page_before
from .view import LogView

_LOSSES_MAX = 12


class Api:
    """What programs and the page's charts read. Plain functions run in threads; only the stream is a coroutine."""

    def __init__(self, view: LogView, maps: MemoryMaps, follower: Follower) -> None:
        self._view = view
        self._maps = maps
        self._follower = follower

    def routes(self) -> list[BaseRoute]:
        """Lists the routes; GET alone."""
        return [
            Route("/api/state", self.state),
            Route("/api/events", self.events),
            Route("/api/event/{seq}", self.event),
            Route("/api/memory", self.memory),
            Route("/api/training", self.training),
            Route("/api/rewards", self.rewards),
            Route("/live", self.live),
        ]

    def state(self, _request: Request) -> Response:
        """Where machine and agent stand."""
        self._view.refresh()
        return _json(overview(self._view))

    def events(self, request: Request) -> Response:
        """A page of the log, newest first; ``before`` of the next page is the last seq of this one."""
        self._view.refresh()
        before = asking.number(request, "before", self._view.head + 1)
        rows = page_before(self._view.reader, before, asking.limit(request), asking.types(request))
        return _json({"head": self._view.head, "events": rows})

    def event(self, request: Request) -> Response:
        """One event, its payload as the log holds it."""
        detail = detail_of(self._view.reader, asking.position(request))
        if detail is None:
            raise HTTPException(404, "there is no such event")
        content = msgspec.to_builtins(detail)
        content["payload"] = None if detail.payload is None else msgspec.json.decode(detail.payload)
        return _json(content)

    def memory(self, _request: Request) -> Response:
        """The live memory on a plane."""
        self._view.refresh()
        return _json(self._maps.draw(self._view.state))

    def training(self, _request: Request) -> Response:
        """The last training runs with their losses, newest first."""
        self._view.refresh()
        board = self._view.training
        active = self._view.state.checkpoint
        return _json({"count": board.count, "active": active, "runs": board.runs(_LOSSES_MAX)})

    def rewards(self, _request: Request) -> Response:
        """Task types by rank, with their rewards over time, and the plan."""
        self._view.refresh()
        tasks = self._view.rewards.by_task_type(self._view.state)
        return _json({"task_types": tasks, "plan": plan_of(self._view)})

    async def live(self, request: Request) -> Response:
        """Tells one client when the state changed and which events came; ``after`` is what it knows already."""
        if self._follower.clients >= CLIENTS_MAX:
            return PlainTextResponse("too many pages are open", 503)
        last = request.headers.get("last-event-id", "")
        seen = int(last) if last.isascii() and last.isdigit() and len(last) < 20 else None
        if seen is None and "after" in request.query_params:
            seen = asking.number(request, "after", 0)
        return EventSourceResponse(self._follower.stream(seen), send_timeout=30)


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value, enc_hook=str), media_type="application/json")
