"""A second thread that inserts rows while the first drafts the next ones.

SQLite works without the interpreter's lock, so the two run side by side; but only if the one that drafts lets go of the
lock until the insert has begun, since a thread that wants the lock waits for 5 ms otherwise.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from threading import Lock

from .ports import Row


class Inserter:
    """Inserts chunks of rows, one after the other, in a thread of its own.

    Args:
        driver: the connection; nobody else uses it between ``begin`` and ``finish``.
        statement: inserts a chunk at once: a statement is one stretch without the interpreter's lock.
    """

    def __init__(self, driver: sqlite3.Connection, statement: str) -> None:
        self._driver, self._statement = driver, statement
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="instar-insert")
        self._begun: list[Future[None]] = []

    def begin(self, rows: Sequence[Row]) -> None:
        """Begins to insert a chunk; returns when SQLite is at it."""
        running = Lock()
        running.acquire()
        self._begun.append(self._threads.submit(self._insert, list(chain.from_iterable(rows)), running))
        running.acquire()

    def _insert(self, columns: list[object], running: Lock) -> None:
        running.release()  # who waits for it goes on when this thread gives the interpreter's lock up, in SQLite
        self._driver.execute(self._statement, columns)

    def finish(self) -> None:
        """Waits for what was begun.

        Raises:
            sqlite3.Error: of the first chunk that could not be inserted.
        """
        begun, self._begun = self._begun, []
        outcomes = [one.exception() for one in begun]
        for error in outcomes:
            if error is not None:
                raise error

    def close(self) -> None:
        """Ends the thread."""
        self._threads.shutdown()
