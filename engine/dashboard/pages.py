"""The page and its fragments, as HTML. Whatever comes from the log is escaped: every template has autoescape on."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from instar.fsm.events import GainOf

from . import asking, glyphs
from .diagram import diagrams
from .overview import overview, plan_of
from .rows import GROUPS, LIMIT_MAX, detail_of, page_before, rows_after
from .view import LogView

PAYLOAD_CHARS_MAX = 200_000
_RUNS_SHOWN = 12
_TASKS_SHOWN = 200
_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><circle cx="16" cy="16" r="11" fill="none" '
    'stroke="#8a8f87" stroke-width="3" stroke-dasharray="5.6 3.04"/>'
    '<circle cx="16" cy="5" r="4.5" fill="#d97706"/></svg>'
)


class Pages:
    """The HTML routes. Each is a plain function, so that it runs in a thread."""

    def __init__(self, view: LogView) -> None:
        self._view = view
        self._templates = Environment(
            loader=FileSystemLoader(Path(__file__).with_name("templates")),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.globals.update(glyphs=glyphs, groups=GROUPS, diagrams=diagrams())
        self._templates.filters["short"] = lambda digest: digest[:12] if digest else "none"
        self._templates.filters["clip"] = _clip

    def routes(self) -> list[BaseRoute]:
        """Lists the routes; GET alone."""
        return [
            Route("/", self.page),
            Route("/icon.svg", self.icon),
            Route("/fragments/state", self.state),
            Route("/fragments/events", self.events),
            Route("/fragments/event/{seq}", self.event),
            Route("/fragments/training", self.training),
            Route("/fragments/rewards", self.rewards),
        ]

    def page(self, _request: Request) -> Response:
        """The whole page."""
        self._view.refresh()
        content = self._rows(self._view.head + 1, 60, "", ())
        return self._show("page.html", **self._state(), **content, **self._training(), **self._rewards())

    def icon(self, _request: Request) -> Response:
        """The mark in the browser's tab."""
        return Response(_ICON, media_type="image/svg+xml")

    def state(self, _request: Request) -> Response:
        """The state panel."""
        self._view.refresh()
        return self._show("state.html", **self._state())

    def events(self, request: Request) -> Response:
        """Rows of the timeline: those after a position, or a page of those before one."""
        self._view.refresh()
        types, choice = asking.types(request), request.query_params.get("type", "")
        if "after" in request.query_params:
            rows = rows_after(self._view.reader, asking.number(request, "after", 0), LIMIT_MAX, types)
            return self._show("events.html", events=rows, choice=choice, older=None, fresh=True)
        before = asking.number(request, "before", self._view.head + 1)
        return self._show("events.html", **self._rows(before, asking.limit(request), choice, types))

    def event(self, request: Request) -> Response:
        """One event, whole."""
        self._view.refresh()
        detail = detail_of(self._view.reader, asking.position(request))
        if detail is None:
            raise HTTPException(404, "there is no such event")
        return self._show("event.html", detail=detail, entry=detail.entry, head=self._view.head)

    def training(self, _request: Request) -> Response:
        """The table of training runs."""
        self._view.refresh()
        return self._show("training.html", **self._training())

    def rewards(self, _request: Request) -> Response:
        """The table of rewards, and the plan."""
        self._view.refresh()
        return self._show("rewards.html", **self._rewards())

    def _state(self) -> dict[str, Any]:
        return {"now": overview(self._view)}

    def _rows(self, before: int, limit: int, choice: str, types: tuple[str, ...]) -> dict[str, Any]:
        rows = page_before(self._view.reader, before, limit, types)
        older = rows[-1].seq if len(rows) == limit and rows[-1].seq > 1 else None
        return {"events": rows, "choice": choice, "older": older, "fresh": False}

    def _training(self) -> dict[str, Any]:
        runs = self._view.training.runs(_RUNS_SHOWN)
        state = self._view.state
        return {
            "runs": runs,
            "runs_count": self._view.training.count,
            "active": state.checkpoint,
            "cycle_now": state.cycle.number if state.cycle else None,
            "gain_scales": {
                of: glyphs.gain_scale([run.gain for run in runs if run.gain_of == of]) for of in get_args(GainOf)
            },
        }

    def _rewards(self) -> dict[str, Any]:
        state = self._view.state
        return {
            "tasks": self._view.rewards.by_task_type(state, _TASKS_SHOWN),
            "tasks_count": len(state.standings),
            "plan": plan_of(self._view),
            "reward_threshold": state.policy.reward.threshold,
        }

    def _show(self, template: str, **content: Any) -> Response:
        return HTMLResponse(self._templates.get_template(template).render(**content))


def _clip(text: str) -> str:
    if len(text) <= PAYLOAD_CHARS_MAX:
        return text
    return f"{text[:PAYLOAD_CHARS_MAX]}\n… {len(text) - PAYLOAD_CHARS_MAX} characters more"
