"""One of many threads does the waiting work of all: the group commit of databases.

The method is flat combining (Hendler, Incze, Shavit & Tzafrir 2010): a thread leaves its request in a queue; whoever
gets the turn serves all that wait, and wakes their owners. While it waits for the disk, the next group gathers.

Threads of Python take turns at the interpreter's lock. Were a whole group woken at once, most would wake only to wait
for that lock, and be woken again: so each of those who were served wakes the next.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Generic, TypeVar

from instar.fsm.errors import LogUnavailable

_PAUSE_S = 300e-6
"""Long enough for a thread that was woken to come back, short against what a disk takes to sync."""
_CHAINS = 2
"""How many threads wake others at a time: while one runs, the next one's processor is on its way."""


class Request:
    """What a thread wants done; subclasses hold the work and its outcome."""

    __slots__ = ("_asleep", "done", "gone", "then")

    def __init__(self) -> None:
        self.done = False
        self.gone = False
        """Its thread waits no more."""
        self.then: Request | None = None
        """Whom its thread wakes."""
        self._asleep: threading.Lock | None = None

    def queued(self) -> None:
        """Makes ready to wait; a request that is served at once never needs it."""
        self._asleep = threading.Lock()
        self._asleep.acquire()

    def sleep(self) -> None:
        """Waits until somebody wakes this request's thread."""
        if self._asleep is not None:
            self._asleep.acquire()

    def wake(self) -> None:
        """Wakes the thread; waking it twice is waking it once."""
        if self._asleep is not None:
            with suppress(RuntimeError):
                self._asleep.release()

    def leave(self) -> None:
        """Goes on to the next one to be woken, past those whose threads an exception took away."""
        self.gone = True
        after = self.then if self.done else None
        while after is not None:
            after.wake()
            after = after.then if after.gone else None


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
        self._turn = threading.RLock()
        """Knows whose it is, so that a thread which is interrupted gives it back only if it had it by then."""
        self._owner = 0
        """The thread that serves; 0 for none."""
        self._process = os.getpid()
        self._waiting: deque[R] = deque()
        self._enough = threading.Lock()
        """Released when as many wait as the last group held."""
        self._enough.acquire()

    def submit(self, request: R) -> None:
        """Returns when the request was served, by this thread or another.

        An exception of a signal's handler (Ctrl-C) may come after any call, between two lines too: so the turn is asked
        for within the block at whose end it is given back, and giving it back is the first call there.

        Raises:
            LogUnavailable: this thread is in the midst of serving: a signal's handler or a destructor asks for more.
        """
        me = threading.get_ident()
        if self._owner == me:
            raise LogUnavailable(
                "a signal handler or a destructor asked to record something while its thread was recording. Nothing "
                "of it was recorded: ask for it in a thread of its own, or afterwards."
            )
        if self._last == 1 and not self._waiting:
            try:
                if self._turn.acquire(blocking=False):
                    self._owner = me
                    self._serve((request,))
                    return
            finally:
                self._owner = 0 if self._owner == me else self._owner
                try:  # noqa: SIM105 - entering `suppress` would be a call
                    self._turn.release()
                except RuntimeError:
                    pass
                if self._waiting:
                    self._wake_next()
        if os.getpid() != self._process:  # forked off while a thread served, which is not there to end
            self._serve((request,))
            return
        self._submit_together(request, me)

    def _submit_together(self, request: R, me: int) -> None:
        """Waits among others for the turn, or to be served by one who has it."""
        request.queued()
        self._waiting.append(request)
        if len(self._waiting) == self._last:
            self._tell_enough()
        try:
            while not request.done:
                had = True  # or may have it, if the next call is the last before an exception
                try:
                    if self._turn.acquire(blocking=False):
                        self._owner = me
                        if not request.done:
                            self._serve_group()
                    else:
                        had = False
                        request.sleep()
                finally:
                    if had:
                        self._owner = 0 if self._owner == me else self._owner
                        try:  # noqa: SIM105
                            self._turn.release()
                        except RuntimeError:
                            pass
                if had:
                    self._wake_next()
        except BaseException:
            with suppress(ValueError):  # else somebody is serving it
                self._waiting.remove(request)
            self._wake_next()  # this thread may have been woken to take the turn
            raise
        finally:
            request.leave()

    def _serve_group(self) -> None:
        group = self._gather()
        try:
            self._serve(group)
        finally:
            for first in range(min(_CHAINS, len(group))):
                for one, after in pairwise(group[first::_CHAINS]):
                    one.then = after
            for request in group:
                request.done = True
            for first_woken in group[:_CHAINS]:
                first_woken.wake()
                if first_woken.gone:
                    first_woken.leave()

    def _gather(self) -> list[R]:
        """Takes what waits. Where the last group was larger, its threads are on their way: waits while more come."""
        waiting = self._waiting
        self._enough.acquire(blocking=False)
        while (count := len(waiting)) < self._last:
            self._enough.acquire(timeout=_PAUSE_S)
            if len(waiting) == count:
                break
        group = [waiting.popleft() for _ in range(min(len(waiting), self._group_max))]
        self._last = len(group)
        return group

    def _tell_enough(self) -> None:
        with suppress(RuntimeError):
            self._enough.release()

    def _wake_next(self) -> None:
        """Hands the turn on: a request that came after the group was gathered may sleep already."""
        with suppress(IndexError):
            self._waiting[0].wake()
