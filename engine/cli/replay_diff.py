"""``instar replay --diff A B``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .anchors import anchor_lines
from .output import emit

if TYPE_CHECKING:
    from instar.engine.bundles.anchor import Anchored
    from instar.store.reader import LogReader


def show(reader: LogReader, anchored: list[Anchored], *, a: str, b: str, as_json: bool) -> None:
    """Prints what differs between two points of the log."""
    from instar.engine.differences.state_diff import compare_states
    from instar.engine.references import resolve
    from instar.store.blobs import BlobStore

    from .diff_output import lines_of

    blobs = BlobStore(reader.path.with_name("blobs"), reader)
    found = compare_states(reader, blobs, resolve(reader, a), resolve(reader, b))
    content = {"same": found.same, "diff": found, "anchors": len(anchored)}
    emit("replay", content, as_json=as_json, lines=[*lines_of(found), *anchor_lines(anchored)])
