"""Appends to a log for a while; with a seed, under an alarm at random moments whose handler raises."""

from __future__ import annotations

import random
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

from instar.fsm.errors import LogUnavailable
from instar.store.log import EventLog, Pending
from tests.store.logs import feedback

_ALARM_MAX_S = 0.002


class Cut(Exception):
    """What the handler raises."""


def append_all(path: Path, name: str, for_s: float) -> int:
    """Appends until the time is up; gives how many were told to be recorded."""
    log, number = EventLog(path, actor=name), 0
    until = time.monotonic() + for_s
    while time.monotonic() < until:
        log.append(feedback(number))
        number += 1
    log.close()
    return number


def append_under_alarm(path: Path, seed: int, for_s: float) -> int:
    """Appends, each under an alarm; gives how often that fell into one."""
    log, cut, chance = EventLog(path, actor="cut"), 0, random.Random(seed)
    until, number, armed = time.monotonic() + for_s, 0, False

    def fall(*_: object) -> None:
        nonlocal armed
        if armed:
            armed = False
            raise Cut

    signal.signal(signal.SIGALRM, fall)
    while time.monotonic() < until:
        number += 1
        try:
            armed = True
            signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-5, _ALARM_MAX_S))
            while armed:
                if number % 3:
                    log.append(feedback(number))
                else:
                    log.transact(lambda _, number=number: [Pending(feedback(number))] * 2)  # type: ignore[misc]
        except (Cut, LogUnavailable) as error:
            if isinstance(error, LogUnavailable) and "signal's handler" not in str(error):
                raise
            cut += 1
            time.sleep(0.005)  # whatever it still held, the others would have to wait for
    log.close()
    return cut


if __name__ == "__main__":
    where, seed, seconds = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    with suppress(BrokenPipeError):
        print(append_under_alarm(where, seed, seconds) if seed else append_all(where, sys.argv[4], seconds))
