"""A log as its own writer could forge it: every hash, link and state digest is right, only the story is not true."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import zstandard

from instar.fsm.chain import GENESIS, link
from instar.fsm.codec import decode_event
from instar.fsm.evolve import evolve
from instar.fsm.state import AgentState, state_digest
from instar.fsm.words import Digest, digest_of

Change = Callable[[dict[str, Any]], object]


def log_of(root: Path) -> Path:
    return root / ".instar" / "log.db"


def forge(root: Path, changes: dict[int, Change], *, version: int | None = None) -> None:
    """Changes payloads by position, and chains the whole log anew.

    Args:
        root: the workspace.
        changes: by position, what changes a payload in place.
        version: the version that the changed rows are to claim.
    """
    with closing(_unguarded(root)) as connection:
        connection.row_factory = sqlite3.Row
        state, prev = AgentState(), str(GENESIS)
        for found in connection.execute("SELECT * FROM events ORDER BY seq").fetchall():
            row: dict[str, Any] = dict(found)
            if row["seq"] in changes:
                payload = json.loads(row["payload"])
                changes[row["seq"]](payload)
                row["payload"] = json.dumps(payload, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
                row["version"] = version or row["version"]
            event = decode_event(row["type"], row["version"], row["payload"].encode())
            state = evolve(state, event, seq=row["seq"], cause=row["cause"], at_us=row["recorded_at_us"])
            if row["state_digest"] is not None:
                row["state_digest"] = state_digest(state)
            row["payload_hash"], row["prev_hash"] = digest_of(row["payload"].encode()), prev
            columns = {name: value for name, value in row.items() if name not in ("type", "payload", "hash")}
            row["hash"] = prev = link(kind=row["type"], **columns)
            connection.execute(
                f"UPDATE events SET {', '.join(f'{name} = :{name}' for name in row)} WHERE seq = :seq", row
            )
        connection.execute("DELETE FROM state_snapshots")
        connection.commit()


def add_blob(root: Path, content: bytes) -> Digest:
    """Puts a blob where the store looks for large ones."""
    digest = digest_of(content)
    path = root / ".instar" / "blobs" / digest[:2] / digest[2:]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(zstandard.ZstdCompressor().compress(content))
    return digest


def damage_blob(root: Path, digest: str, content: bytes | None) -> None:
    """Puts other bytes under a blob's name, or takes it away."""
    with closing(_unguarded(root)) as connection:
        if content is None:
            changed = connection.execute("DELETE FROM blobs WHERE digest = ?", (digest,)).rowcount
        else:
            stored = zstandard.ZstdCompressor().compress(content)
            changed = connection.execute("UPDATE blobs SET content = ? WHERE digest = ?", (stored, digest)).rowcount
        connection.commit()
    assert changed == 1, f"blob {digest} is not in the database"


def _unguarded(root: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(log_of(root))
    for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        connection.execute(f"DROP TRIGGER {name}")
    return connection
