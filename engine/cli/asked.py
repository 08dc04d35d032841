"""Who asks a verb, where that is no command line: what the verb would print is kept for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any


class Asked:
    """One call of a verb by a program.

    Attributes:
        actor: who asks, as the log records it.
        may_change: whether the verb may record or change anything, and finish a restore that was cut off.
        verb: the verb that gave a result.
        content: that result, as the envelope would hold it.
        patch: the patch that goes with it.
        notes: what would be said to people.
    """

    def __init__(self, actor: str, *, may_change: bool) -> None:
        self.actor = actor
        self.may_change = may_change
        self.verb = ""
        self.content: Any = None
        self.patch = b""
        self.notes: list[str] = []


_ASKED: ContextVar[Asked | None] = ContextVar("asked", default=None)


@contextmanager
def asking(actor: str, *, may_change: bool) -> Iterator[Asked]:
    """Has verbs that run within, in this thread, hand over what they would print."""
    one = Asked(actor, may_change=may_change)
    token = _ASKED.set(one)
    try:
        yield one
    finally:
        _ASKED.reset(token)


def asked() -> Asked | None:
    """Gives the call in progress; None on the command line."""
    return _ASKED.get()


def actor() -> str:
    """Says who acts, as the log records it."""
    one = _ASKED.get()
    return "cli" if one is None else one.actor


def may_change() -> bool:
    """Says whether anything may be recorded or changed."""
    one = _ASKED.get()
    return one is None or one.may_change
