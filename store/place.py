"""Where a log lies."""

from __future__ import annotations

import re
from pathlib import Path

from msgspec import Struct

from instar.fsm.errors import ConfigError

_STREAM = re.compile("[a-z][a-z0-9_]{0,62}")
_SCHEME = r"(?P<scheme>[a-z][a-z0-9+.-]*://)"
_HOST = r"(?:\[[0-9A-Fa-f:.%]*\]|[^][:/?#@,\s]*)(?::[0-9]*)?"
_WHERE = rf"(?P<where>{_HOST}(?:,{_HOST})*(?:/[^/?#@\s]*)?)"
_URL = re.compile(rf"{_SCHEME}(?:(?P<user>[^:/?#@\s]*)(?::[^@/\s]*)?@)?{_WHERE}(?:\?[^@\s]*)?")
_MALFORMED = re.compile(rf"{_SCHEME}(?:(?P<user>[^:/?#@\s]*)(?::[^?]*)?@)?{_WHERE}(?:\?[^@]*)?", re.DOTALL)
"""A password with a character that must not stand there as it is; where it may hold a ``?``, nothing is sure."""
_STRAY_PERCENT = re.compile("%(?![0-9A-Fa-f]{2})|%00")


class Place(Struct, frozen=True):
    """A SQLite file, or a stream of a PostgreSQL database; the store's own folder lies on this machine either way.

    Attributes:
        path: the SQLite file; with a URL no such file is made, but locks and large blobs still lie beside it.
        url: ``postgresql+psycopg://user@host/database``; None for SQLite.
        stream: the PostgreSQL schema that holds this workspace's log, and no other's.
    """

    path: Path
    url: str | None = None
    stream: str = ""

    @property
    def name(self) -> str:
        """What messages call the log; no password in it."""
        return f"stream {self.stream} of {without_password(self.url)}" if self.url else str(self.path)


def place_of(where: Path | Place) -> Place:
    """Takes a path for the SQLite file that it names.

    Raises:
        ConfigError: the URL or the stream cannot be used.
    """
    place = Place(where) if isinstance(where, Path) else where
    if place.url is not None:
        if not place.url.startswith("postgresql+psycopg://"):
            raise ConfigError(
                f"the log's URL {without_password(place.url)} is not understood: give "
                "postgresql+psycopg://USER@HOST/DATABASE, or none for a file in the workspace"
            )
        # The driver's own messages would quote what it takes for a host or a port.
        if not _URL.fullmatch(place.url) or _STRAY_PERCENT.search(place.url):
            raise ConfigError(
                f"the log's URL {without_password(place.url)} cannot be taken apart: in a password write @ as %40, "
                "/ as %2F and % as %25, or leave it to ~/.pgpass"
            )
        if not _STREAM.fullmatch(place.stream):
            raise ConfigError(f"{place.stream!r} cannot name a stream: small letters, digits and _ alone, 63 at most")
    return place


def without_password(url: str) -> str:
    """Leaves of a URL its user, host, port and database: a password may stand in the query too.

    >>> without_password("postgresql+psycopg://me:secret@db/agents?sslmode=require")
    'postgresql+psycopg://me@db/agents'
    >>> without_password("postgresql+psycopg://me:an@ of it@db/agents")
    'postgresql+psycopg://me@db/agents'
    """
    found = _URL.fullmatch(url) or _MALFORMED.fullmatch(url)
    if found is None:
        return "(not shown)"
    user = f"{found['user']}@" if found["user"] is not None else ""
    return f"{found['scheme']}{user}{found['where']}"
