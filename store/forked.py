"""What a process that is forked off inherits and must not use: connections of SQLite, and files with shared locks.

SQLite keeps in memory which locks its process has, and knows nothing of forks: a child would take a transaction of a
thread of its parent for one of its own that never ends, and wait for ever for what such a thread held, also on a
connection of its own. So none of ours is in use while a process is forked off, and the child closes them at once. A
lock by ``flock`` goes with the open file: the child of a process that was killed would hold what that one had locked.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Protocol
from weakref import WeakValueDictionary

_PATIENCE_S = 10.0
"""For so long a fork waits for the calls of SQLite that are under way in other threads."""
_LOOK_EVERY_S = 0.1


class Connection(Protocol):
    """A connection of SQLite, with what keeps the threads of a process apart on it."""

    @property
    def is_in_use(self) -> bool:
        """Whether a thread has it that does not merely wait for another process."""

    def pause(self, timeout_s: float) -> bool:
        """Lets no other thread use it; False if one has it for longer than that."""

    def resume(self) -> None:
        """Lets other threads use it again."""

    def leave(self) -> None:
        """Closes it in a child, while the parent goes on with it; it is not in use."""


class LockFile(Protocol):
    """A file with locks."""

    def leave(self) -> None:
        """Closes it in a child, while the parent goes on with it."""


_writers: WeakValueDictionary[int, Connection] = WeakValueDictionary()
_readers: WeakValueDictionary[int, Connection] = WeakValueDictionary()
_files: WeakValueDictionary[int, LockFile] = WeakValueDictionary()
_left: list[Connection] = []
"""Those that a child neither closes nor drops, since a thread had one of them: that might wait for ever."""


class _Forks(threading.local):
    """The forks that a thread has begun, a signal's handler one within another, with what each has paused."""

    def __init__(self) -> None:
        self.begun: list[tuple[list[Connection], list[Connection]]] = []


_forks = _Forks()


def forks_apart(connection: Connection, *, writes: bool) -> None:
    """Keeps a connection apart from processes that are forked off while it is open.

    Args:
        connection: it.
        writes: whoever writes reads meanwhile, so that those who write are paused first.
    """
    (_writers if writes else _readers)[id(connection)] = connection


def closes_in_children(file: LockFile) -> None:
    """Has processes that are forked off close a file with locks."""
    _files[id(file)] = file


def _open(kind: WeakValueDictionary[int, Connection]) -> list[Connection]:
    return [found for found in (reference() for reference in kind.valuerefs()) if found is not None]


def _before() -> None:
    until = time.monotonic() + _PATIENCE_S
    paused: list[Connection] = []
    had: list[Connection] = []
    _forks.begun.append((paused, had))
    for kind in (_writers, _readers):
        for connection in _open(kind):
            (paused if _pause(connection, until) else had).append(connection)


def _pause(connection: Connection, until: float) -> bool:
    while True:
        left_s = max(0.0, until - time.monotonic())
        if connection.pause(min(left_s, _LOOK_EVERY_S)):
            return True
        if not left_s or not connection.is_in_use:
            return False


def _after_in_parent() -> None:
    for connection in _forks.begun.pop()[0]:
        connection.resume()


def _after_in_child() -> None:
    paused, had = _forks.begun.pop()
    in_use = any(connection.is_in_use for connection in had)
    for connection in paused:
        connection.resume()
        if not in_use:
            connection.leave()
    _left.extend([*had, *paused] if in_use else had)
    for kind in (_writers, _readers):
        kind.clear()
    for reference in _files.valuerefs():
        file = reference()
        if file is not None:
            file.leave()


os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
