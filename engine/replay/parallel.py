"""Verifies the ranges of a log in several processes; the calling one is one of them.

The others are started before the first row is read. They open the log for reading alone; a fork would copy threads and
open connections, so each is a fresh interpreter.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from instar.engine.own_python import own_python
from instar.fsm.errors import ConfigError
from instar.store.long_waits import told_after
from instar.store.reader import LogReader

from .findings import RangeFound
from .folding import Folding
from .levels import Level
from .ranges import Range, fold_range
from .worker import Order, take

_LONG_S = 60.0
"""Whoever is at its part so much longer than this process was at its own is told of."""


def verify_ranges(
    reader: LogReader, ranges: list[Range], level: Level, jobs: int
) -> tuple[dict[int, RangeFound], dict[int, Folding]]:
    """Verifies ranges, each in whichever process takes it first.

    Returns:
        What was found, by the number of the range, up to the first that does not fit and maybe beyond; and how the
        ranges were folded that this process took.
    """
    found: dict[int, RangeFound] = {}
    folded: dict[int, Folding] = {}
    order = msgspec.json.encode(Order(str(reader.path), level, tuple(ranges))).decode()
    with _tokens(len(ranges)) as tokens:
        others = _start(jobs - 1, order, tokens)
        try:
            while (number := take(tokens)) is not None:
                found[number], folded[number] = fold_range(reader, ranges[number], level)
                if found[number].failure:
                    break
            while take(tokens) is not None:
                pass  # the others are to take no more
            for other in others:
                found |= _told(other)
        finally:
            for other in others:
                other.kill()
                other.wait()
    return found, folded


@contextmanager
def _tokens(count: int) -> Iterator[int]:
    """Makes a pipe with one byte for each range in it."""
    reading, writing = os.pipe()
    try:
        os.write(writing, bytes(range(count)))
        os.close(writing)
        yield reading
    finally:
        os.close(reading)


def _start(count: int, order: str, tokens: int) -> list[subprocess.Popen[bytes]]:
    try:
        command = own_python("-m", "instar.engine.replay.worker", order)
    except ConfigError:
        return []  # none can be started: all is verified here
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return [
        subprocess.Popen(command, stdin=tokens, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environ)
        for _ in range(count)
    ]


def _told(other: subprocess.Popen[bytes]) -> dict[int, RangeFound]:
    """Reads what another process found; nothing from one that died, whose ranges are then verified here."""
    with told_after(_LONG_S, lambda: _silent(other.pid)):
        content, _ = other.communicate()
    try:
        return dict(msgspec.json.decode(content, type=list[tuple[int, RangeFound]]))
    except msgspec.MsgspecError:
        return {}


def _silent(pid: int) -> str:
    return (
        f"waiting for process {pid}, which verifies a part of the log: the part is large, or a reward model or planner "
        f"that it asks hangs, or it was stopped (`kill -CONT {pid}` lets it go on). Where it hangs, Ctrl-C ends them"
    )
