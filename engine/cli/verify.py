"""``instar verify``."""

from __future__ import annotations

from .output import Json, Root, emit, reader_at


def command(workspace: Root = None, json: Json = False) -> None:
    """Check everything that is stored: the chain, the transitions, state snapshots, every blob that an event needs."""
    from instar.engine.integrity import check
    from instar.fsm.errors import LogCorrupt

    reader = reader_at(workspace)
    found = check(reader)
    reader.close()
    if found.problems:
        listed = "\n  ".join(found.problems[:20])
        raise LogCorrupt(f"{len(found.problems)} problems:\n  {listed}\nRestore what is damaged from a backup.")
    text = (
        f"whole: {found.events} events, {found.blobs} blobs ({found.blob_bytes / 1e6:.1f} MB), "
        f"{found.trees} trees, {found.checkpoints} checkpoints, {found.state_snapshots} state snapshots"
    )
    emit("verify", found, as_json=json, text=text)
