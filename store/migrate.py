"""Makes a log, or brings an older one to the present schema, by Alembic alone: in one transaction or not at all."""

from __future__ import annotations

import logging
import os
import sqlite3
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, ProgrammingError
from sqlalchemy.pool import NullPool

from instar.fsm.errors import ConfigError, LogForeign, LogUnavailable

from .durable import make_folder, sync_folder
from .failpoints import failpoint
from .lock import FileLock
from .lost_log import lost, refuse_lost, stands, traces_of, without_version
from .place import Place, place_of
from .reader import LogReader
from .sqlite_source import APPLICATION_ID, SCHEMA_HEAD, check_schema, too_deep

logger = logging.getLogger("instar.store")

WRITER_SUFFIX = "_writer"
"""Ends the name of the PostgreSQL role that may read and append in a stream, and nothing else."""


def create_log(where: Path | Place) -> None:
    """Creates a log, or brings an older one to the present schema; does nothing to a present one.

    Raises:
        LogForeign: something is there that is no log of ours, or is from a newer version.
        LogLost: nothing is there, or an empty file, and traces of an earlier log lie beside it.
        LogUnavailable: it cannot be written or reached.
        ConfigError: Instar is imported from an archive.
    """
    place = place_of(where)
    _scripts()
    try:
        make_folder(place.path.parent)
        if place.url is not None:
            _create_stream(place)
            return
        with FileLock(place.path.with_name("log.lock")).held():
            _create_file(place.path)
    except OSError as error:
        raise LogUnavailable(
            f"the event log {place.name} cannot be created: {error}. Make room or give permission, then try again."
        ) from error


# ---- SQLite --------------------------------------------------------------------------------------------------------


def _create_file(path: Path) -> None:
    if stands(path):
        _recover(path)
        reader = LogReader(path)
        reader.close()
        if reader.schema != SCHEMA_HEAD:
            _upgrade_file(path)
        return
    refuse_lost(path)
    _make_beside(path)


def _recover(path: Path) -> None:
    """Lets SQLite take back what a cut-off upgrade of a copy began; a read-only connection could not."""
    if path.with_name(f"{path.name}-journal").exists():
        connection = sqlite3.connect(path)
        with suppress(sqlite3.Error, UnicodeDecodeError):  # the reader says what is wrong with it
            connection.execute("SELECT count(*) FROM sqlite_master").fetchall()
        connection.close()


def _make_beside(path: Path) -> None:
    """Makes a log beside its place and renames it there: what was cut off leaves no half log behind."""
    fresh = path.with_name(f".{path.name}.new")
    if fault := too_deep(fresh):
        raise LogUnavailable(f"the event log {path} cannot be created: {fault}.")
    for leftover in (fresh, fresh.with_name(f"{fresh.name}-wal"), fresh.with_name(f"{fresh.name}-shm")):
        with suppress(FileNotFoundError):
            leftover.unlink()
    _upgrade_file(fresh)
    with fresh.open("rb") as file:
        os.fsync(file.fileno())
    failpoint("log.made")
    fresh.replace(path)
    failpoint("log.named")
    sync_folder(path.parent)


def _upgrade_file(path: Path) -> None:
    engine = _one_transaction(URL.create("sqlite", database=str(path)))
    try:
        with engine.connect() as connection:
            driver = connection.connection.driver_connection
            assert driver is not None
            for pragma in ("journal_mode=WAL", "synchronous=FULL", f"application_id={APPLICATION_ID}"):
                driver.execute(f"PRAGMA {pragma}")
            with connection.begin():
                _migrate(connection, SCHEMA_HEAD)
                failpoint("log.migrated")
            driver.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except DBAPIError as error:
        raise _refused(str(path), error) from error
    except sqlite3.Error as error:
        raise LogUnavailable(
            f"the event log {path} cannot be created or upgraded: {error}. Nothing was changed. Make room or give "
            "permission."
        ) from error
    finally:
        engine.dispose()


def _one_transaction(url: str | URL) -> Engine:
    """Builds an engine whose transactions are begun by us, as SQLAlchemy's SQLite page advises: they hold DDL too."""
    engine = create_engine(url, poolclass=NullPool)

    @event.listens_for(engine, "connect")
    def _autocommit(connection: sqlite3.Connection, _record: Any) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


@cache
def pristine_schema(revision: str) -> dict[tuple[str, str], tuple[str, str | None]]:
    """Gives the table and SQL of each table, index and trigger of a fresh log, by kind and name."""
    engine = _one_transaction("sqlite://")
    try:
        with engine.begin() as connection:
            _migrate(connection, revision)
            rows = connection.exec_driver_sql("SELECT type, name, tbl_name, sql FROM sqlite_master").all()
    finally:
        engine.dispose()
    return {(kind, name): (table, sql) for kind, name, table, sql in rows}


# ---- PostgreSQL ----------------------------------------------------------------------------------------------------


def _create_stream(place: Place) -> None:
    from .postgres_source import connect, driver, patience

    assert place.url is not None
    with suppress(driver().Error):  # what is wrong with the server is told of below
        connect(place).close()  # a pooler that shares sessions is refused
    engine = create_engine(place.url, poolclass=NullPool, connect_args=patience(place))
    try:
        with engine.begin() as connection:
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtext(%s))", (f"migrate {place.stream}",))
            connection.exec_driver_sql(f"CREATE SCHEMA IF NOT EXISTS {place.stream}")
            connection.exec_driver_sql(f"SET LOCAL search_path TO {place.stream}")
            found = connection.exec_driver_sql("SELECT to_regclass('alembic_version')::text").scalar()
            version = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() if found else ""
            if version == SCHEMA_HEAD:
                return
            if found and not version:
                raise without_version(place)
            if version:
                check_schema(place.name, str(version))
            elif traces := traces_of(place.path):
                raise lost(place, traces)
            _migrate(connection, SCHEMA_HEAD)
            _give_rights(connection, place.stream)
    except DBAPIError as error:
        raise _refused(place.name, error) from error
    finally:
        engine.dispose()


def _give_rights(connection: Connection, stream: str) -> None:
    """Makes the role that our own connections take: it may read, append, and write copies in another form."""
    role = f"{stream}{WRITER_SUFFIX}"
    try:
        with connection.begin_nested():
            if not connection.exec_driver_sql("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).scalar():
                connection.exec_driver_sql(f"CREATE ROLE {role} NOLOGIN")
            connection.exec_driver_sql(f"GRANT {role} TO CURRENT_USER")
            connection.exec_driver_sql(f"GRANT USAGE ON SCHEMA {stream} TO {role}")
            connection.exec_driver_sql(f"GRANT SELECT, INSERT ON events, blobs, state_snapshots TO {role}")
            connection.exec_driver_sql(f"GRANT INSERT ON doomed TO {role}")
            connection.exec_driver_sql(f"GRANT UPDATE (content) ON blobs TO {role}")
            connection.exec_driver_sql(f"GRANT DELETE ON state_snapshots TO {role}")
            connection.exec_driver_sql(f"GRANT SELECT ON alembic_version TO {role}")
            connection.exec_driver_sql(f"GRANT SELECT, INSERT, UPDATE ON cursors TO {role}")
    except ProgrammingError as error:
        logger.warning(
            "no role of its own for stream %s (%s): only the triggers keep it append-only. "
            "Give the user CREATEROLE before the stream is made.",
            stream,
            error.orig,
        )


# ---- both ----------------------------------------------------------------------------------------------------------


def _migrate(connection: Connection, revision: str) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_scripts()))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def _scripts() -> Path:
    """Gives the folder of the migrations.

    Raises:
        ConfigError: Instar is imported from an archive, and neither they nor its other files lie on a disk.
    """
    import instar.migrations

    folder = Path(instar.migrations.__file__).parent
    if not folder.is_dir():
        raise ConfigError(
            f"Instar cannot work out of an archive ({folder} is no folder): install it with pip, or have what packs it "
            "(zipapp, PEX and the like) unpack it first."
        )
    return folder


def _refused(name: str, error: DBAPIError) -> Exception:
    text = str(error.orig)
    if "already exists" in text:
        return LogForeign(f"{name} holds tables that are not of Instar's making ({text}); it was left as it is.")
    return LogUnavailable(
        f"the event log {name} cannot be created or upgraded: {text}. Nothing was changed. Make room or give "
        "permission."
    )
