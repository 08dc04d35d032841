"""``instar replay --diff A B``."""

from __future__ import annotations

from pathlib import Path

from .output import emit, reader_at


def show(root: Path | None, a: str, b: str, *, as_json: bool) -> None:
    """Prints what differs between two points of the log."""
    from instar.engine.differences.state_diff import compare_states
    from instar.engine.references import resolve
    from instar.store.blobs import BlobStore

    from .diff_output import lines_of

    reader = reader_at(root)
    try:
        blobs = BlobStore(reader.path.with_name("blobs"), reader)
        found = compare_states(reader, blobs, resolve(reader, a), resolve(reader, b))
    finally:
        reader.close()
    emit("replay", {"same": found.same, "diff": found}, as_json=as_json, text="\n".join(lines_of(found)))
