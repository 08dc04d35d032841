"""Reading a log of SQLite: the driver on a read-only connection, without SQLAlchemy.

Reads need no statement builder, the driver decodes rows faster than Core, and a command such as ``instar status`` that
only reads is done before SQLAlchemy would have been imported.
"""

from __future__ import annotations

import os
import re
import sqlite3
import stat
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from instar.fsm.errors import LogCorrupt, LogForeign, LogUnavailable

from .forked import forks_apart
from .lost_log import absent
from .opened_file import OpenedFile
from .place import Place
from .ports import Row
from .shared_locks import shared_locks

APPLICATION_ID = 0x494E5354
"""``INST``: SQLite's application id of our files."""
SCHEMA_HEAD = "0004"
"""The Alembic revision that this version of the code writes."""
SCHEMAS = ("0001", "0002", "0003", SCHEMA_HEAD)
"""The revisions that it reads."""
PATH_BYTES_MAX = 504
"""SQLite takes 512, of which it keeps 8 for the names of what lies beside a file."""
INDEX_BYTES = 64 * 1024
"""Room under which SQLite may be unable to make the index of a write-ahead log, which it reads by."""


class SqliteSource:
    """Reads one file; never blocks a writer.

    Raises:
        LogMissing: there is no such file, or an empty one; LogLost where traces of an earlier log lie beside it.
        LogForeign: it is no log of ours, or of a newer schema.
    """

    schema = ""
    """The Alembic revision of the file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()  # a signal's handler may fork, or read, while its thread reads
        self._process = os.getpid()
        self._connection = self._connect()
        forks_apart(self, writes=False)
        self._locks = shared_locks(path)
        try:
            self._check_ours()
        except BaseException:
            self.close()
            raise

    def _connect(self) -> sqlite3.Connection:
        try:
            status = self.path.stat()
        except OSError as error:
            raise absent_or_out_of_reach(self.path, error) from error
        if not stat.S_ISREG(status.st_mode):
            raise LogForeign(
                f"{self.path} is a folder or a device, not a file, so no event log of Instar: move it away, then init."
            )
        if not status.st_size:
            raise absent(Place(self.path))
        self._file = OpenedFile(self.path)
        try:
            return self._connected("mode=ro")
        except sqlite3.OperationalError as error:
            return self._connect_unwritable(error)

    def _connected(self, how: str) -> sqlite3.Connection:
        connection = sqlite3.connect(uri_of(self.path, how), uri=True, check_same_thread=False, isolation_level=None)
        try:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.OperationalError:
            connection.close()
            raise
        except (sqlite3.Error, UnicodeDecodeError):  # what is wrong with the file is said by the first look at it
            pass
        return connection

    def _connect_unwritable(self, error: sqlite3.OperationalError) -> sqlite3.Connection:
        """Opens a log where not even the file that readers share can be made, such as an auditor's copy."""
        refused = re.search("unable to open|readonly database", str(error))  # by the medium, or by the folder's rights
        if os.access(self.path.parent, os.W_OK) or not refused:
            raise wrapped(error, self.path) from error
        wal = self.path.with_name(f"{self.path.name}-wal")
        if wal.exists() and wal.stat().st_size:
            raise LogUnavailable(
                f"{self.path} cannot be read where nothing can be written, since {wal.name} holds the latest events: "
                "copy the folder to where it can be written, and read it there."
            ) from error
        try:
            return self._connected("mode=ro&immutable=1")
        except sqlite3.OperationalError as last:
            raise wrapped(last, self.path) from last

    def _check_ours(self) -> None:
        application = self.all("PRAGMA application_id")[0][0]
        tables = {name for (name,) in self.all("SELECT name FROM sqlite_master")}
        version = self.all("SELECT version_num FROM alembic_version") if "alembic_version" in tables else []
        if application != APPLICATION_ID or not version or "events" not in tables:
            raise LogForeign(f"{self.path} is no event log of Instar; it was left as it is. Move it away, then init.")
        self.schema = str(version[0][0])
        check_schema(str(self.path), self.schema)

    def all(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """Gives every row of a query.

        Raises:
            LogLost: the file is no longer the one that was opened.
            LogCorrupt, LogForeign, LogUnavailable: it cannot be read, or was opened before this process was forked off.
        """
        refuse_forked(self._process, self.path)
        self._file.require()
        try:
            with self._lock:
                return self._connection.execute(sql, parameters).fetchall()
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise wrapped(error, self.path) from error

    def changed_token(self) -> int:
        """SQLite's ``data_version``: changes when another connection commits."""
        return int(self.all("PRAGMA data_version")[0][0])

    def close(self) -> None:
        """Closes the connection, unless it is the parent's."""
        if os.getpid() == self._process:
            with self._lock:
                self.leave()

    @property
    def is_in_use(self) -> bool:
        """Whether another thread reads."""
        if not self._lock.acquire(blocking=False):
            return True
        self._lock.release()
        return False

    def pause(self, timeout_s: float) -> bool:
        """Keeps other threads from reading; False if one did not end in that time."""
        return self._lock.acquire(timeout=timeout_s)

    def resume(self) -> None:
        """Lets them read again."""
        self._lock.release()

    def leave(self) -> None:
        """Closes the connection, which nobody uses."""
        self._connection.close()
        self._locks = None


def refuse_forked(process: int, path: Path) -> None:
    """Makes sure that a connection is used by the process that opened it.

    Raises:
        LogUnavailable: this is another one.
    """
    if os.getpid() != process:
        raise LogUnavailable(
            f"the event log {path} was opened before this process was forked off: open it again here, "
            "a connection of SQLite cannot be shared"
        )


def uri_of(path: Path, how: str) -> str:
    """Names a file for SQLite, whatever bytes its path holds.

    >>> uri_of(Path("/a b/50%?.db"), "mode=ro")
    'file:/a%20b/50%25%3F.db?mode=ro'
    """
    return f"file:{quote(os.fsencode(path))}?{how}"


def absent_or_out_of_reach(path: Path, error: OSError) -> Exception:
    """Says what it means that the file of a log could not be looked at."""
    if isinstance(error, FileNotFoundError):
        return absent(Place(path))
    return LogUnavailable(f"the event log {path} cannot be reached: {error}. Give permission.")


def check_schema(name: str, version: str) -> None:
    """Makes sure that a log can be read here; every older schema can be.

    Raises:
        LogForeign: it is of a newer version.
    """
    if version not in SCHEMAS:
        raise LogForeign(
            f"{name} has schema {version}, which this version of Instar does not know. "
            f"Install a newer Instar; nothing was changed."
        )


def closed(path: Path) -> LogUnavailable:
    """Says that this process closed its log, as an engine does that another thread stops."""
    return LogUnavailable(
        f"the event log {path} was closed meanwhile, in this process: nothing was recorded. Stop the engine when no "
        "other thread needs it any more, or start it again."
    )


def wrapped(error: sqlite3.Error | UnicodeDecodeError, path: Path) -> Exception:
    """Says what a fault of the driver means to a reader; a damaged schema breaks the driver's own messages."""
    text = str(error)
    if "closed database" in text:
        return closed(path)
    if "not a database" in text:
        return LogForeign(f"{path} is no SQLite file, so no event log of Instar; it was left as it is.")
    if isinstance(error, UnicodeDecodeError) or re.search("malformed|corrupt|decode to UTF-8", text):
        return LogCorrupt(f"{path} is damaged ({text}). Restore it from a backup, then run `instar verify`.")
    if fault := too_deep(path):
        return LogUnavailable(f"the event log {path} cannot be read: {fault}. Nothing is lost.")
    if lacking := lacks_room(path.parent):
        # Whoever reads needs room for an index of the write-ahead log, where no other process has made one.
        return LogUnavailable(f"the event log {path} cannot be read: {lacking}. Make room; nothing is lost.")
    return LogUnavailable(f"the event log {path} cannot be read: {text}. Look at its permissions and its disk.")


def too_deep(path: Path) -> str:
    """Says where a path is too long for SQLite, which takes the links out of it first; nothing where it is not."""
    size = len(os.fsencode(os.path.realpath(path)))
    if size <= PATH_BYTES_MAX:
        return ""
    return f"without links its path has {size} bytes, and SQLite takes {PATH_BYTES_MAX}: move the folder up"


def lacks_room(folder: Path) -> str:
    """Says what a file system has no room for; nothing, if it has room for a small file."""
    try:
        facts = os.statvfs(folder)
    except OSError:
        return ""
    if facts.f_bavail * facts.f_frsize < INDEX_BYTES:
        return "the disk is full"
    if facts.f_files and not facts.f_favail:  # some file systems count no files
        return "the disk has no room for another file, however small (`df -i` counts its inodes)"
    return ""
