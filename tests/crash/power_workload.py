"""What is done to a log while it is recorded: ``python -m tests.crash.power_workload ROOT [PART …]``.

Each append says ``ack SEQ HASH`` on standard output as soon as it has returned: from then on it may not be lost.
"""

from __future__ import annotations

import os
import random
import re
import signal
import sqlite3
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from instar.fsm.events import TaskQueued
from instar.fsm.record import Recorded
from instar.store.blobs import FILE_BYTES_MIN
from instar.store.log import SNAPSHOT_EVERY, EventLog, Pending, create_log
from instar.store.trees import Tree, write_tree
from tests.store.logs import INIT, feedback

HOME = ".instar"
LARGE = random.Random(1).randbytes(FILE_BYTES_MIN)


def acknowledge(records: Iterable[Recorded]) -> None:
    """Tells the world, in one write, that these appends have returned."""
    os.write(1, "".join(f"ack {record.seq} {record.hash}\n" for record in records).encode())


def naming(log: EventLog, content: bytes) -> None:
    """Appends an event that names a blob."""
    patch = log.blobs.put(content)
    acknowledge([log.append(TaskQueued(task="mutate", source="power", patch=patch, gate=("true",)))])


def begin(log: EventLog) -> None:
    """The first event, whose tree is in the store."""
    acknowledge([log.append(replace(INIT, tree=write_tree(log.blobs, Tree(files={}))))])


def singles(log: EventLog, count: int = 3) -> None:
    """One append a commit."""
    for _ in range(count):
        number = log.state.head
        acknowledge([log.append(feedback(number), key=f"single {number}")])


def batch(log: EventLog) -> None:
    """Several events in one commit."""
    acknowledge(log.transact(lambda state: [Pending(feedback(n), key=f"batch {state.head} {n}") for n in range(5)]))


def small_blob(log: EventLog) -> None:
    """A blob in the database."""
    naming(log, b"a small blob, kept in the database beside its event")


def large_blob(log: EventLog) -> None:
    """A blob that is a file of its own."""
    naming(log, LARGE)


def die_naming_a_large_blob(log: EventLog) -> None:
    """The process is killed when the blob's file has just been given its name."""
    replace_file = os.replace

    def deadly(source: Any, target: Any) -> None:
        replace_file(source, target)
        os.kill(os.getpid(), signal.SIGKILL)

    os.replace = os.rename = deadly  # type: ignore[assignment]
    large_blob(log)


def second_large_blob(log: EventLog) -> None:
    """Another one, in a folder of its own or not."""
    naming(log, bytes(reversed(LARGE)))


def checkpoint(log: EventLog) -> None:
    """Copies the WAL into the database, then writes over the WAL."""
    connection = sqlite3.connect(log.path)
    assert connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()[0] == 0
    connection.close()
    singles(log, 2)


def threads(log: EventLog) -> None:
    """Several threads append at once."""
    started = [threading.Thread(target=_thread, args=(log, name)) for name in range(4)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()


def _thread(log: EventLog, name: int) -> None:
    for number in range(2):
        acknowledge([log.append(feedback(number), key=f"thread {name} {number}")])


def snapshot(log: EventLog) -> None:
    """So many events in one commit that the state is saved with them."""
    acknowledge(log.transact(lambda _: [Pending(feedback(n)) for n in range(SNAPSHOT_EVERY)]))


PARTS = {
    part.__name__: part
    for part in (
        *(begin, singles, batch, small_blob, large_blob, die_naming_a_large_blob, second_large_blob),
        *(checkpoint, threads, snapshot),
    )
}


class WeakCursor(sqlite3.Cursor):
    """Asks for ``synchronous=NORMAL`` wherever the store asks for something stronger."""

    def execute(self, sql: str, /, *parameters: Any) -> sqlite3.Cursor:  # type: ignore[override]
        return super().execute(re.sub(r"synchronous *= *\w+", "synchronous=NORMAL", sql), *parameters)


def weaken() -> None:
    """Makes every SQLite connection of this process a careless one."""
    connect = sqlite3.connect

    def weakly(*arguments: Any, factory: type[sqlite3.Connection] = sqlite3.Connection, **named: Any) -> Any:
        class Weak(factory):  # type: ignore[misc, valid-type]
            def cursor(self, *_: Any, **__: Any) -> sqlite3.Cursor:
                return super().cursor(WeakCursor)  # type: ignore[no-any-return]

            def execute(self, sql: str, /, *parameters: Any) -> sqlite3.Cursor:
                return self.cursor().execute(sql, *parameters)

        return connect(*arguments, factory=Weak, **named)

    sqlite3.connect = sqlite3.dbapi2.connect = weakly


def main(root: Path, parts: list[str]) -> None:
    """Does the parts in order."""
    path = root / HOME / "log.db"
    if "weakly" in parts:
        weaken()
    create_log(path)
    log = EventLog(path)
    for part in parts:
        if part == "reopen":
            log.close()
            log = EventLog(path)
        elif part in PARTS:
            PARTS[part](log)
    log.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
