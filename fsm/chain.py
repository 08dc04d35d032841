"""The hash chain over the rows of the log.

A row's hash covers the hash of the row before it and every column of its own, the payload by its hash. A payload can
therefore be erased on lawful request, and the chain still verifies.
"""

from __future__ import annotations

from hashlib import sha256

from .words import Digest, Seq

GENESIS = Digest(sha256(b"instar log 1").hexdigest())
"""The ``prev_hash`` of the first event."""


def link(
    prev_hash: str,
    seq: Seq,
    kind: str,
    version: int,
    recorded_at_us: int,
    cycle: int,
    cause: Seq | None,
    actor: str,
    state_before: str,
    state_after: str,
    key: str | None,
    payload_hash: str,
    state_digest: str | None,
) -> Digest:
    r"""Hashes one row: sha256 over its columns in this order, each as text, joined by ``\n``; None is empty text."""
    row = (
        f"{prev_hash}\n{seq}\n{kind}\n{version}\n{recorded_at_us}\n{cycle}\n{'' if cause is None else cause}\n{actor}\n"
        f"{state_before}\n{state_after}\n{'' if key is None else key}\n{payload_hash}\n{state_digest or ''}"
    )
    return Digest(sha256(row.encode()).hexdigest())
