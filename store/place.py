"""Where a log lies."""

from __future__ import annotations

import re
from pathlib import Path

from msgspec import Struct

from instar.fsm.errors import ConfigError

_STREAM = re.compile("[a-z][a-z0-9_]{0,62}")


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
        if not _STREAM.fullmatch(place.stream):
            raise ConfigError(f"{place.stream!r} cannot name a stream: small letters, digits and _ alone, 63 at most")
    return place


def without_password(url: str) -> str:
    """Leaves the password out of a URL.

    >>> without_password("postgresql+psycopg://me:secret@db/agents")
    'postgresql+psycopg://me@db/agents'
    """
    return re.sub("(//[^:/@]*):[^@]*@", r"\1@", url)
