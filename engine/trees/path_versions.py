"""The versions of one file that the log holds: what it was at first, and each change since."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from instar.fsm.errors import ConfigError
from instar.fsm.events import ChangeObserved, WorkspaceInitialized
from instar.fsm.record import Recorded
from instar.fsm.words import Digest, Seq
from instar.store.reader import LogReader
from instar.store.tree_changes import find_path
from instar.store.tree_nodes import NodeReader


class Version(Struct, frozen=True, kw_only=True):
    """One version of a file.

    Attributes:
        seq: the event that recorded it; `instar restore PATH --at SEQ` gives it back.
        at_us: when, microseconds since 1970 UTC.
        change: ``initial`` for what stood there when the log began.
        blob: its bytes; None once it was deleted.
        size: their number.
        cause: the event that finished the restore which made the change; None for anybody else's.
        actor: who recorded it.
    """

    seq: Seq
    at_us: int
    change: str
    blob: Digest | None
    size: int
    cause: Seq | None
    actor: str


def versions(reader: LogReader, nodes: NodeReader, path: str) -> list[Version]:
    """Lists the versions of a file, oldest first.

    Args:
        reader: the log.
        nodes: reads the first tree.
        path: as trees spell it.

    Raises:
        ConfigError: the log holds no version of it.
    """
    found: list[Version] = []
    first = reader.get(1)
    if isinstance(first.event, WorkspaceInitialized):
        entry = find_path(nodes, first.event.tree, path).entry
        if entry is not None:
            found.append(_version(first, "initial", entry.blob, entry.size))
    named = f'"path":{msgspec.json.encode(path).decode()}'
    for record in reader.read(2, types=[ChangeObserved], holding=named):
        event = record.event
        if isinstance(event, ChangeObserved) and event.path == path:
            found.append(_version(record, event.change, event.after, event.size))
    if not found:
        raise ConfigError(f"the log holds no version of {path or 'the root'}: name a file that was captured")
    return found


def _version(record: Recorded, change: str, blob: Digest | None, size: int) -> Version:
    return Version(
        seq=record.seq,
        at_us=record.recorded_at_us,
        change=change,
        blob=blob,
        size=size,
        cause=record.cause,
        actor=record.actor,
    )
