"""Reading a log of PostgreSQL: the driver on a read-only connection, without SQLAlchemy."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from instar.fsm.errors import ConfigError, LogUnavailable

from .lost_log import absent, without_version
from .place import Place
from .ports import Row
from .sqlite_source import check_schema

if TYPE_CHECKING:
    import psycopg

_SILENCE: Final[dict[str, int]] = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""After how long a machine that no longer answers is given up, in seconds, the last in milliseconds. The kernel's own
patience is two hours where nothing is to be sent, and whoever waits for an answer then hears of nothing."""


class PostgresSource:
    """Reads one stream; a lost connection is opened again.

    Raises:
        ConfigError: the driver is not installed.
        LogMissing: there is no such stream; LogLost where traces of an earlier log lie in the workspace.
        LogForeign: it is of a newer version.
        LogUnavailable: the server cannot be reached.
    """

    schema = ""
    """The Alembic revision of the stream."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._connection: psycopg.Connection[Row] | None = None
        try:
            self.schema = self._look_up_schema()
        except BaseException:
            self.close()
            raise

    def _look_up_schema(self) -> str:
        name = self._place.name
        looked_up = self.all(
            "SELECT has_schema_privilege(oid, 'USAGE'), (SELECT has_table_privilege(oid, 'SELECT') FROM pg_class "
            "WHERE oid = to_regclass('alembic_version')) FROM pg_namespace WHERE nspname = ?",
            (self._place.stream,),
        )
        if not looked_up:
            raise absent(self._place)
        usable, readable = looked_up[0]  # the second is NULL where there is no such table
        if not usable or readable is False:
            raise LogUnavailable(
                f"the user of {name} may not read it: connect as its owner, or have that one give the right to read "
                f"(GRANT USAGE ON SCHEMA {self._place.stream}, GRANT SELECT ON its tables)"
            )
        version = self.all("SELECT version_num FROM alembic_version") if readable else []
        if not version:
            raise without_version(self._place)
        check_schema(name, str(version[0][0]))
        return str(version[0][0])

    def all(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """Gives every row of a query.

        Raises:
            LogUnavailable: it cannot be read, or was opened before this process was forked off.
        """
        refuse_forked(self._process, self._place)
        psycopg = driver()
        # ``?`` stands for a parameter in every query; none of ours holds one otherwise, or a percent sign.
        query = sql.replace("?", "%s").encode()
        try:
            with self._lock:
                opened = self._connection
                connection = self._open()
                try:
                    return connection.execute(query, parameters).fetchall()
                except psycopg.OperationalError:
                    if connection is not opened or not connection.closed:
                        raise
                    return self._open().execute(query, parameters).fetchall()  # it had died since the last question
        except psycopg.Error as error:
            raise unreachable(error, self._place) from error

    def _open(self) -> psycopg.Connection[Row]:
        if self._connection is None or self._connection.closed:
            self._connection = connect(self._place, "SET default_transaction_read_only = on")
        return self._connection

    def changed_token(self) -> int:
        """The head: it changes with every append."""
        return int(self.all("SELECT coalesce(max(seq), 0) FROM events")[0][0])

    def close(self) -> None:
        """Closes the connection, unless it is the parent's: closing that here would end it there."""
        if os.getpid() != self._process:
            return
        with self._lock:
            if self._connection is not None:
                self._connection.close()


def driver() -> Any:
    """Imports psycopg.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import psycopg
    except ImportError as error:
        raise ConfigError(f"a log in PostgreSQL needs psycopg ({error}): pip install 'instar[postgresql]'") from error
    return psycopg


def patience(place: Place) -> dict[str, int]:
    """Gives the limits on silence that a connection is made with, but for those that its URL or libpq's variable sets.

    Raises:
        ConfigError: the driver is not installed.
        LogUnavailable: the URL names what the driver does not know.
    """
    errors = driver().Error
    from psycopg.conninfo import conninfo_to_dict

    try:
        said = set(conninfo_to_dict(_conninfo(place)))
    except errors as error:
        raise unreachable(error, place) from error
    if "PGCONNECT_TIMEOUT" in os.environ:
        said.add("connect_timeout")
    return {name: limit for name, limit in _SILENCE.items() if name not in said}


def connect(place: Place, *settings: str) -> psycopg.Connection[Row]:
    """Connects to a stream, each statement a transaction of its own; what is set for the session is set at once.

    Raises:
        LogUnavailable: a pooler stands between, which gives what is one session to us to several clients in turns.
    """
    connection = _connected(place)
    try:
        cursor = connection.execute(
            "; ".join((f"SET search_path TO {place.stream}", *settings, "SELECT pg_backend_pid()")).encode()
        )
        while cursor.nextset():
            pass
        (pid,) = cursor.fetchone() or (0,)
        if pid != connection.info.backend_pid:  # a pooler makes up a number of its own
            _refuse_shared(place, connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _connected(place: Place) -> psycopg.Connection[Row]:
    connection: psycopg.Connection[Row] = driver().connect(_conninfo(place), autocommit=True, **patience(place))
    return connection


def _refuse_shared(place: Place, connection: psycopg.Connection[Row]) -> None:
    """Makes sure that a pooler lets a client keep its session: what is set for one must reach nobody else.

    Where it does not, the session that was used last is given to who asks next.
    """
    token = uuid4().hex
    connection.execute(b"SELECT set_config('instar.session', %s, false)", (token,))
    with _connected(place) as other:
        (seen,) = other.execute(b"SELECT current_setting('instar.session', true)").fetchone() or (None,)
        if seen != token:
            return
        other.execute(b"RESET ALL")  # so that no other client finds what was set here
    raise LogUnavailable(
        f"the event log {place.name} is behind a pooler that gives one session to several clients in turns (PgBouncer: "
        "pool_mode = transaction or statement). Nothing was done: have it keep a session for each client (pool_mode = "
        "session), or connect to the server itself."
    )


def _conninfo(place: Place) -> str:
    assert place.url is not None
    return place.url.replace("postgresql+psycopg://", "postgresql://", 1)


def refuse_forked(process: int, place: Place) -> None:
    """Makes sure that a connection is used by the process that opened it.

    Raises:
        LogUnavailable: this is another one.
    """
    if os.getpid() != process:
        raise LogUnavailable(
            f"the event log {place.name} was opened before this process was forked off: open it again here, "
            "a connection to PostgreSQL cannot be shared"
        )


def unreachable(error: Exception, place: Place) -> Exception:
    """Says what a fault of the driver means."""
    text = " ".join(str(error).split())
    return LogUnavailable(f"the event log {place.name} cannot be reached or read: {text}. Look at server and rights.")
