"""Processes that append to one log: ``python -m tests.crash.appenders race …`` to the end, ``nursery …`` until killed,
``crowd …`` until told to end.

What an append returned goes into a file of the process, in one write: the kernel keeps it when the process is killed.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from instar.fsm.events import TaskQueued
from instar.store import sqlite_journal
from instar.store.failpoints import arm
from instar.store.log import EventLog
from tests.store.logs import feedback

assert sqlite_journal, "loaded before the forks, so that a child appends as soon as it lives"
THREADS = 2
BLOB_EVERY = 16


@dataclass(frozen=True)
class Ack:
    """What an append returned, as its own process noted it."""

    number: int
    seq: int
    hash: str


def acks_in(path: Path) -> list[Ack]:
    """Reads the notes of one thread of appends."""
    if not path.exists():
        return []
    lines = path.read_text().splitlines(keepends=True)
    parts = [line.split() for line in lines if line.endswith("\n")]
    return [Ack(int(number), int(seq), own) for number, seq, own in parts]


# ---- to the end ------------------------------------------------------------------------------------------------------


def race(path: Path, name: str, count: int) -> None:
    """Appends ``count`` events when a line arrives on standard input, and prints how long each had to wait at most."""
    log = EventLog(path, actor=name)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    began = time.perf_counter()
    longest = 0.0
    for number in range(count):
        asked = time.perf_counter()
        log.append(feedback(number, task_type=name))
        longest = max(longest, time.perf_counter() - asked)
    print(json.dumps({"duration_s": time.perf_counter() - began, "longest_s": longest}))
    log.close()


# ---- until told to end -----------------------------------------------------------------------------------------------


def on(path: Path, notes: Path, name: str) -> None:
    """Appends without keys, so that whoever holds the log may record it, until standard input ends."""
    log = EventLog(path, actor=name)
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    _append_unkeyed(log, notes / name, name, ended.is_set)
    log.close()


def crowd(path: Path, notes: Path, armed: str, others: int) -> None:
    """Lets ``others`` processes append so, and beside them one whose failpoints are ``armed``, until that has ended.

    Says how that one ended; the others go on until standard input ends.
    """
    started = [_forked(on, path, notes, f"other{number}") for number in range(others)]
    while len(list(notes.iterdir())) < others:  # until each has begun
        time.sleep(0.01)
    _, status = os.waitpid(_forked(_armed, path, notes, armed), 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
    for child in started:
        assert os.waitpid(child, 0)[1] == 0


def _armed(path: Path, notes: Path, armed: str) -> None:
    arm(armed)
    signal.alarm(60)  # it is to be killed by then
    on(path, notes, "victim")


def _forked(what: Callable[..., None], *arguments: object) -> int:
    """Forks a process; nothing was opened before, so it shares nothing with its siblings but standard streams."""
    child = os.fork()
    if child:
        return child
    os.dup2(2, 1)
    code = 1
    try:
        what(*arguments)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _append_unkeyed(log: EventLog, place: Path, name: str, ended: Callable[[], bool]) -> None:
    file = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    number = 0
    while not ended():
        record = log.append(feedback(number, task_type=name))
        os.write(file, f"{number} {record.seq} {record.hash}\n".encode())
        number += 1


# ---- until killed ----------------------------------------------------------------------------------------------------


def nursery(path: Path, notes: Path, slots: int, kills: int, seed: int, keyed: int) -> None:
    """Keeps ``slots`` processes appending and kills one after the other, ``kills`` times, at random moments.

    Args:
        path: the log.
        notes: the folder of what was acknowledged.
        slots: how many processes.
        kills: how many are killed before the end.
        seed: of the moments and of who is killed.
        keyed: 0 appends without keys, so that processes record each other's events; but for the first one, which goes
            the longer way.
    """
    rng = random.Random(seed)
    children = {slot: _child(path, notes, slot, bool(keyed)) for slot in range(slots)}
    while len(list(notes.iterdir())) < (slots * THREADS if keyed else slots):  # until each has begun
        time.sleep(0.01)
    for _ in range(kills):
        time.sleep(rng.random() * 0.06)
        slot = rng.randrange(slots)
        os.kill(children[slot], signal.SIGKILL)
        _, status = os.waitpid(children[slot], 0)
        assert os.WIFSIGNALED(status), f"an appender ended by itself: {status}"
        children[slot] = _child(path, notes, slot, bool(keyed))
    for child in children.values():
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _child(path: Path, notes: Path, slot: int, keyed: bool) -> int:
    """Forks an appender; nothing was opened before, so it shares nothing with its siblings."""
    child = os.fork()
    if child:
        return child
    try:
        log = EventLog(path, actor=f"slot{slot}")
        if not keyed and slot:
            _append_unkeyed(log, notes / f"{os.getpid()}", str(os.getpid()), lambda: False)
        threads = [threading.Thread(target=_append_on, args=(log, notes, f"{slot}.{n}")) for n in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def _append_on(log: EventLog, notes: Path, name: str) -> None:
    """Goes on after the last append that was acknowledged: the one that was cut off is asked for again, by its key."""
    place = notes / name
    known = acks_in(place)
    number = known[-1].number + 1 if known else 0
    file = -1
    while True:
        event = feedback(number, task_type=name)
        if number % BLOB_EVERY == 0:
            patch = log.blobs.put(f"blob {name} {number}".encode())
            record = log.append(TaskQueued(task="mutate", source=name, patch=patch), key=f"{name} {number}")
        else:
            record = log.append(event, key=f"{name} {number}")
        if file < 0:
            file = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(file, f"{number} {record.seq} {record.hash}\n".encode())
        number += 1


if __name__ == "__main__":
    if sys.argv[1] == "race":
        race(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
    elif sys.argv[1] == "crowd":
        crowd(Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4], int(sys.argv[5]))
    else:
        nursery(Path(sys.argv[2]), Path(sys.argv[3]), *map(int, sys.argv[4:]))
