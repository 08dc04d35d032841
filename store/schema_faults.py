"""Says in what the tables, indexes and triggers of a log are not as the migrations make them."""

from __future__ import annotations

from .migrate import pristine_schema
from .reader import LogReader
from .stream_faults import stream_faults

_OF_SQLITE = {"sqlite_stat1", "sqlite_stat4"}


def schema_faults(reader: LogReader) -> list[str]:
    """Looks at what keeps a log append-only; of a file, at its pages and indexes too, of a stream at rights.

    Raises:
        LogUnavailable, LogCorrupt: it cannot be looked at.
    """
    return stream_faults(reader) if reader.place.url else _of_file(reader)


def _of_file(reader: LogReader) -> list[str]:
    rows = reader.query("SELECT type, name, tbl_name, sql FROM sqlite_master")
    found = {(kind, name): (table, sql) for kind, name, table, sql in rows}
    wanted = pristine_schema(reader.schema)
    faults = [f"the {kind} {name} is missing" for kind, name in wanted if (kind, name) not in found]
    for (kind, name), made in found.items():
        if name not in _OF_SQLITE and (kind, name) not in wanted:
            faults.append(f"the {kind} {name} is not of Instar's making")
        elif wanted.get((kind, name), made) != made:
            faults.append(f"the {kind} {name} was altered")
    told = [text for (text,) in reader.query("PRAGMA integrity_check(20)")]
    return faults + [f"SQLite finds: {text}" for text in told if text != "ok"]
