"""Processes record each other's events: the group commit of ``combining``, between processes.

A process that finds the log held leaves its event in a slot. Whoever holds the log records, in one commit with its
own, what stands in the slots: before the commit it writes into each slot where the event is going to stand, and after
it that it is durable. So whoever asked knows in every case what became of its event: durable; not looked at, and
withdrawn once it holds the lock itself; or, where who took it died, to be looked up in the log. Nothing acknowledged
is lost, and nothing is recorded twice, whoever dies when.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence

from instar.fsm.record import Recorded

from .failpoints import failpoint
from .gates import Gates
from .lock import FileLock, is_of_the_system
from .slots import OPEN, Answer, Asked, Fate, Slots

_EXPECTED_FOR = 256
"""Appends after one of another process in which to expect more of them."""
_TRIES = 4
"""Ends of commits to wait for before joining the queue of the lock, where those wait whose event nobody records."""

_PAUSE_S = 100e-6
"""How long whoever has recorded for others lets one of them go first: time for all of them to come with their next."""


class Asking:
    """Asking and being asked, behind the lock of one log.

    Args:
        lock: the lock.
        require: makes sure that the log is still there.
    """

    def __init__(self, lock: FileLock, require: Callable[[], object]) -> None:
        self._lock, self._require = lock, require
        self._slots, self._gates = Slots(lock), Gates(lock)
        self._process = os.getpid()
        self._led = False
        """The last commit had events of others in it."""
        self._expected = 0
        """Appends for which others are expected to append too."""
        self._answer: Answer | None = None
        """What became of the request that waits."""

    def lay_out(self) -> None:
        """Makes room for requests, while the lock is held."""
        self._slots.lay_out()

    @property
    def alone(self) -> bool:
        """No other process has appended lately."""
        return not self._expected

    def expect_others(self) -> None:
        """Expects other processes to append, for a while."""
        self._expected = _EXPECTED_FOR

    # ---- who asks --------------------------------------------------------------------------------------------------

    def ask(self, content: bytes) -> Answer:
        """Takes the lock or, where somebody holds it, has an event recorded by whoever does.

        Returns:
            What became of the event. Only if it is ``SERVED`` is the lock not held.

        Raises:
            LogUnavailable: the lock cannot be had.
            LogLost: the log is gone; nobody was asked.
        """
        self._require()
        if self._expected:
            self._expected -= 1
        led, self._led = self._led, False
        if not led and self._lock.acquire(blocking=False):
            return OPEN
        if os.getpid() != self._process:  # forked off: whoever goes on with the log's lock refuses
            self._lock.acquire()
            return OPEN
        self._expected = _EXPECTED_FOR
        if not self._slots.ask(content):
            self._lock.acquire()
            return OPEN
        self._answer = None
        try:
            failpoint("log.asked")
            if led:  # else one would go on for long as the first, and the others be late for every other commit
                time.sleep(_PAUSE_S)
            return self._wait()
        finally:
            if self._answer is None:  # interrupted: it may be recorded or not
                self._slots.withdraw()

    def _wait(self) -> Answer:
        slots = self._slots
        for _ in range(_TRIES):
            try:
                self._gates.wait()
            except OSError as error:
                if not is_of_the_system(error):
                    raise
                break
            answer = slots.look()
            if answer.fate is Fate.SERVED:
                self._answer = answer
                slots.withdraw()
                return answer
            if self._lock.acquire(blocking=False, granted=self._granted):
                return self._answered()
        self._lock.acquire(granted=self._granted)
        return self._answered()

    def _granted(self) -> None:
        """Looks what became of the request in the file that was just locked, which may be given up for a new one."""
        if self._answer is None:
            self._answer = self._slots.look()
            self._slots.withdraw()

    def _answered(self) -> Answer:
        assert self._answer
        if self._answer.fate is Fate.SERVED:
            self._lock.back_to(0)
        return self._answer

    # ---- who serves ------------------------------------------------------------------------------------------------

    def close_gate(self) -> None:
        """Has those who ask wait for the end of the commit that begins, while the lock is held."""
        self._gates.close()

    def release(self, level: int = 0) -> None:
        """Goes back to a level of the lock; at 0, those whose events were in the commit go on. May be done again."""
        try:
            self._lock.back_to(level)
        finally:
            if self._gates.closed and not level:
                self._gates.open()

    def asked(self, seen: set[int]) -> list[Asked]:
        """Gives what others ask for, while the lock is held; does not look where none are expected.

        Args:
            seen: the tokens of requests that are not to be given again; those that are given are added.
        """
        return self._slots.asked(seen) if self._expected else []

    def take(self, taken: Sequence[tuple[Asked, Recorded]]) -> None:
        """Says where the events that others asked for are going to stand; only then may they be committed.

        Raises:
            OSError: it cannot be said.
        """
        self._slots.take(taken)
        self._led = True
        failpoint("log.taken")

    def wipe(self) -> None:
        """Leaves nothing of what was recorded for others, while the lock is held."""
        self._slots.wipe()

    def served(self) -> None:
        """Says that they are durable."""
        self._slots.served()
        failpoint("log.served")

    def close(self) -> None:
        """Gives up the slot; a process that was forked off may hold the file open for longer."""
        self._slots.leave()
