"""Reading a request: positions, limits and filters, each checked."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request

from .rows import LIMIT_MAX, types_of

_SEQ_MAX = 2**62


def number(request: Request, name: str, default: int, *, most: int = _SEQ_MAX) -> int:
    """Reads a whole number from the query, at least 0 and at most ``most``.

    Raises:
        HTTPException: 400, it is none.
    """
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise HTTPException(400, f"{name} must be a whole number")
    return min(int(text), most)


def position(request: Request) -> int:
    """Reads the position that a path names.

    Raises:
        HTTPException: 404, no event can have it.
    """
    text = request.path_params["seq"]
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= _SEQ_MAX):
        raise HTTPException(404, "there is no such event")
    return int(text)


def limit(request: Request, default: int = 60) -> int:
    """Reads how many rows are wanted."""
    return max(1, number(request, "limit", default, most=LIMIT_MAX))


def types(request: Request) -> tuple[str, ...]:
    """Reads the filter: the name of an event type or of a group; empty for all.

    Raises:
        HTTPException: 400, there is no such type or group.
    """
    found = types_of(request.query_params.get("type", ""))
    if found is None:
        raise HTTPException(400, "type must be an event type or a group of them")
    return found
