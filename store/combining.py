"""One of many threads does the waiting work of all: the group commit of databases.

The method is flat combining (Hendler, Incze, Shavit & Tzafrir 2010): a thread leaves its request in a queue; whoever
gets the turn serves all that wait, and wakes their owners. While it waits for the disk, the next group gathers.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Generic, TypeVar

_PAUSE_S = 50e-6
"""Long enough for a thread that was woken to come back, short against what a disk takes to sync."""


class Request:
    """What a thread wants done; subclasses hold the work and its outcome."""

    __slots__ = ("_asleep", "done")

    def __init__(self) -> None:
        self.done = False
        self._asleep = threading.Lock()
        self._asleep.acquire()

    def sleep(self) -> None:
        """Waits until somebody wakes this request's thread."""
        self._asleep.acquire()

    def wake(self) -> None:
        """Wakes the thread; waking it twice is waking it once."""
        with suppress(RuntimeError):
            self._asleep.release()


R = TypeVar("R", bound=Request)


class Combiner(Generic[R]):
    """Serves requests in the order in which they came, a group at a time.

    Args:
        serve: does the work of a group; stores each outcome in its request, and raises nothing.
        group_max: how many requests one group holds at most.
    """

    def __init__(self, serve: Callable[[Sequence[R]], None], group_max: int = 1024) -> None:
        self._serve = serve
        self._group_max = group_max
        self._last = 1
        """How many the last group held."""
        self._turn = threading.Lock()
        self._waiting: deque[R] = deque()

    def submit(self, request: R) -> None:
        """Returns when the request was served, by this thread or another."""
        self._waiting.append(request)
        while not request.done:
            if self._turn.acquire(blocking=False):
                try:
                    if not request.done:
                        self._serve_group()
                finally:
                    self._turn.release()
                    self._wake_next()
            else:
                request.sleep()

    def _serve_group(self) -> None:
        group = self._gather()
        try:
            self._serve(group)
        finally:
            for request in group:
                request.done = True
                request.wake()

    def _gather(self) -> list[R]:
        """Takes what waits. Where the last group was larger, its threads are on their way: waits while more come."""
        group: list[R] = []
        while True:
            before = len(group)
            while self._waiting and len(group) < self._group_max:
                group.append(self._waiting.popleft())
            if len(group) >= self._last or len(group) == before:
                self._last = len(group)
                return group
            time.sleep(_PAUSE_S)

    def _wake_next(self) -> None:
        """Hands the turn on: a request that came after the group was gathered may sleep already."""
        with suppress(IndexError):
            self._waiting[0].wake()
