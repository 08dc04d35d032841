"""The one worker of a stream: whose session holds the stream's second advisory lock.

A file's lock tells of this folder alone; a copy of the folder, here or on another machine, has the same stream. The
lock is of the session that appends, so that nothing can be recorded by a worker that lost it.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import Any, Final

from instar.fsm.errors import LogUnavailable, WorkerBusy

from .place import Place
from .postgres_source import connect, driver
from .reader import LogReader

_KEY: Final = "hashtextextended({}, 1)"
_TURN: Final = "hashtextextended({}, 0)"
"""The lock that appends take turns by; which one stands in its place in a statement of ``postgres_journal``, too."""
_TAKE: Final = f"SELECT pg_try_advisory_lock({_KEY.format('%s')})"
_GIVE_BACK: Final = f"SELECT pg_advisory_unlock({_KEY.format('%s')})"
_HOLDER: Final = (
    "SELECT pid, backend_start::text, coalesce(application_name, ''), coalesce(host(client_addr), '') "
    "FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory' AND granted AND objsubid = 1 "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
    "AND ((classid::bigint << 32) | objid::bigint) = "
)
_OWN: Final = "SELECT pid, backend_start::text FROM pg_stat_activity WHERE pid = pg_backend_pid()"
_END: Final = "SELECT pg_terminate_backend(%s)"
_SESSION: Final = (
    "SELECT set_config(name, value, false) FROM pg_settings JOIN (VALUES ('application_name', %s), "
    "('tcp_keepalives_idle', '30'), ('tcp_keepalives_interval', '10'), ('tcp_keepalives_count', '3'), "
    "('tcp_user_timeout', '30000')) AS wanted (name, value) USING (name) WHERE source = 'default'"
)
"""What the server or the URL says otherwise stays. The server's own patience with a machine that no longer answers is
two hours, and as long would it keep the locks of a session whose machine is gone."""
_END_S: Final = 10.0
_PAUSE_S: Final = 0.05


def name_session(connection: Any) -> None:
    """Tells the server whose session this is, and after how long of silence it is over."""
    connection.execute(_SESSION, (f"instar: process {os.getpid()} on {os.uname().nodename}"[:63],))


def other_worker(reader: LogReader) -> str:
    """Says which session is a stream's one worker; empty if there is none, or the log is a file."""
    place = reader.place
    rows = reader.query(_HOLDER + _KEY.format("?"), (place.stream,)) if place.url else ()
    return _told(rows[0]) if rows else ""


def long_turn(place: Place) -> str:
    """Says, for whoever has waited long, who appends to a stream; asks by a connection of its own."""
    holder = None
    with suppress(LogUnavailable, driver().Error), connect(place) as connection:
        holder = connection.execute((_HOLDER + _TURN.format("%s")).encode(), (place.stream,)).fetchone()
    who = _told(holder) if holder else "another session"
    return (
        f"waiting for {place.name}, which is in another's hand ({who}); this goes on once it is given back. "
        "A process that was stopped (Ctrl-Z, SIGSTOP) keeps it: let it go on (`kill -CONT`), or end it"
    )


class Hold:
    """The lock of the one worker, on whichever connection a process has now.

    Attributes:
        wanted: a new connection has to take the lock before it is used.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._had: tuple[Any, ...] = ()
        self.wanted = False

    def take(self, connection: Any) -> None:
        """Takes the lock; a session of ours whose connection broke, and which the server still has, is ended for it.

        Raises:
            WorkerBusy: another worker has it.
            LogUnavailable: our own earlier session cannot be ended.
        """
        deadline = time.monotonic() + _END_S
        while not connection.execute(_TAKE, (self._place.stream,)).fetchone()[0]:
            holder = connection.execute(_HOLDER + _KEY.format("%s"), (self._place.stream,)).fetchone()
            if holder is None:
                pass  # it was given back just now
            elif holder[:2] != self._had:  # number and beginning name a session for good
                raise busy(self._place, _told(holder))
            else:
                connection.execute(_END, (holder[0],))
            if time.monotonic() > deadline:
                raise LogUnavailable(
                    f"the worker's own earlier session of {self._place.name} does not end: "
                    f"{_told(holder) if holder else 'not shown'}. The server drops it once it finds that nobody is "
                    "there, after a minute unless its keepalives are set otherwise; then start the worker again."
                )
            time.sleep(_PAUSE_S)
        self._had = connection.execute(_OWN).fetchone()

    def give_back(self, connection: Any) -> None:
        """Gives the lock back; it goes with its connection too."""
        connection.execute(_GIVE_BACK, (self._place.stream,))


def busy(place: Place, who: str) -> WorkerBusy:
    """Says that a stream has a worker elsewhere, which one, and what to do."""
    return WorkerBusy(
        f"another worker has {place.name} in hand ({who}), of another folder with the same .instar/stream: a copy of "
        "this one, or the one that this was copied from. Nothing was recorded. One of them may work on a stream: end "
        "that worker, or make this folder an agent of its own: move its .instar away, then `instar init`. If that "
        "machine is gone, the server drops its session after a minute, unless its keepalives are set otherwise.",
        elsewhere=True,
    )


def _told(holder: tuple[Any, ...]) -> str:
    pid, begun, name, address = holder
    begun = f", since {begun}" if begun else ""
    return f"{name or 'no name shown'}, {f'from {address}, ' * bool(address)}server process {pid}{begun}"
