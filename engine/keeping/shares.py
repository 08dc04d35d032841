"""What of a workspace takes how much room on the disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec import Struct

from instar.engine.workspace import Workspace
from instar.fsm.errors import LogUnavailable
from instar.store.reader import LogReader

from .kinds import Size
from .leftovers import size_below

_TABLES = {"events": "events", "state_snapshots": "saved states", "cursors": "cursors of followers"}
_FOLDERS = {
    "checkpoints": "checkpoint folders",
    "memory": "indexes of memory",
    "staging": "staging of restores",
    "scratch": "scratch of effects",
}


class Share(Struct, frozen=True):
    """One kind of content."""

    what: str
    bytes: int
    count: int = 0
    unit: str = ""


def shares(workspace: Workspace, reader: LogReader, sizes: Mapping[str, Size]) -> list[Share]:
    """Adds up everything that is there, the largest first.

    Args:
        workspace: whose folder is looked at.
        reader: its log.
        sizes: what blobs take, by kind.
    """
    found = [Share(f"blobs: {kind}", size.bytes, size.count, "blobs") for kind, size in sizes.items()]
    found += _of_stream(reader) if reader.place.url else _of_file(reader)
    for name, what in _FOLDERS.items():
        folder = workspace.home / name
        if folder.is_dir():
            found.append(Share(what, size_below(folder), sum(1 for _ in folder.iterdir()), "entries"))
    found += _files(workspace)
    return sorted((share for share in found if share.bytes), key=lambda share: -share.bytes)


def _of_file(reader: LogReader) -> Iterator[Share]:
    """Reads SQLite's own statistics; where it was built without them, the sizes of the tables are not told."""
    heads = reader.head()
    ((page_bytes,),) = reader.query("PRAGMA page_size")
    ((free,),) = reader.query("PRAGMA freelist_count")
    yield Share("free pages of the database", page_bytes * free)
    wal = reader.path.with_name(f"{reader.path.name}-wal")
    yield Share("write-ahead log", wal.stat().st_size if wal.exists() else 0)
    try:
        rows = reader.query(
            "SELECT name, (SELECT type FROM sqlite_master m WHERE m.name = d.name), sum(pgsize) "
            "FROM dbstat d GROUP BY name"
        )
    except LogUnavailable:
        return
    yield Share("indexes", sum(size for _, kind, size in rows if kind == "index"))
    for name, _, size in rows:
        if name in _TABLES:
            yield Share(_TABLES[name], size, heads if name == "events" else 0, "events" if name == "events" else "")


def _of_stream(reader: LogReader) -> Iterator[Share]:
    heads = reader.head()
    indexes = 0
    for name in (*_TABLES, "blobs"):
        ((table, index),) = reader.query(
            "SELECT pg_table_size(?::regclass), pg_indexes_size(?::regclass)", (name, name)
        )
        indexes += index
        if name in _TABLES:
            yield Share(_TABLES[name], table, heads if name == "events" else 0, "events" if name == "events" else "")
    yield Share("indexes", indexes)


def _files(workspace: Workspace) -> Iterator[Share]:
    logs = [workspace.worker_log, workspace.home / "errors.log"]
    yield Share("logs of ours", sum(size_below(path) for path in logs))
    yield Share("stat cache", sum(size_below(path) for path in workspace.home.glob("stat-cache*")))
