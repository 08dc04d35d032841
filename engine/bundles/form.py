"""The form of a bundle: the line of an event, the manifest, the text that is signed. docs/audit.md specifies it."""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import Struct

from instar.fsm.chain import GENESIS
from instar.fsm.errors import InstarError
from instar.fsm.words import Digest, Seq
from instar.store.reader import Row

from .chained_rows import NAMES

FORMAT = "instar-bundle"
FORMAT_VERSION = 1
SIGNATURE_FORMAT = "instar-bundle-1"

Wanted = Literal["none", "named", "all"]
"""Which blobs go into a bundle: none, those that an exported event names, those and every other one in the store."""


class BlobListed(Struct, frozen=True):
    """A blob that is in the bundle."""

    sha256: Digest
    size: int


class LeftOut(Struct, frozen=True):
    """A blob that is wanted and not in the bundle.

    Attributes:
        seq: the first event that names it; None if no exported one does.
        size: None where the bytes are gone.
    """

    sha256: Digest
    reason: Literal["erased", "collected", "too large"]
    seq: Seq | None
    size: int | None


class Blobs(Struct, frozen=True, kw_only=True):
    """Which blobs the bundle holds, and which it should and does not; both by sha256."""

    wanted: Wanted
    blob_bytes_max: int | None
    listed: tuple[BlobListed, ...]
    left_out: tuple[LeftOut, ...]


class Manifest(Struct, frozen=True, kw_only=True):
    """What a bundle says of itself. The events ``first`` to ``last`` of the log are in it; ``head_*`` is ``last``'s.

    Attributes:
        log_head: the head of the whole log when it was exported; what came after ``last`` was left out.
        prev_hash: of the event before ``first``.
        erased: how many of the events have no payload any more.
        merkle_root: over the hashes of the exported events.
    """

    format: str = FORMAT
    format_version: int = FORMAT_VERSION
    workspace: str
    genesis: Digest = GENESIS
    first: Seq
    last: Seq
    count: int
    erased: int
    prev_hash: Digest
    head_hash: Digest
    log_head: Seq
    merkle_root: Digest
    events_bytes: int
    events_sha256: Digest
    blobs: Blobs
    public_key: str | None


_ENCODER = msgspec.json.Encoder(order="sorted")


def canonical(content: object) -> bytes:
    """Writes canonical JSON: keys sorted by code point, no white space, UTF-8, only the escapes that must be."""
    return _ENCODER.encode(content)


def event_line(row: Row) -> bytes:
    """Writes a raw row as one line: every column; the payload as the text that it is.

    Raises:
        InstarError: a column holds a line feed, by which the row's hash would fit other columns too.
    """
    columns = dict(zip(NAMES, row, strict=True))
    for name in ("actor", "key"):
        if "\n" in (columns[name] or ""):
            raise InstarError(
                f"event {columns['seq']} has a line feed in its {name}, so its hash does not prove where that ends. "
                "It cannot be shown to others; export the events before or after it."
            )
    return canonical(columns) + b"\n"


def signed_text(manifest: Manifest, manifest_sha256: str) -> bytes:
    """Gives the text that is signed: its own name first, so that it can be taken for nothing else."""
    return (
        f"{SIGNATURE_FORMAT}\n"
        f"workspace {manifest.workspace}\n"
        f"first {manifest.first}\n"
        f"last {manifest.last}\n"
        f"count {manifest.count}\n"
        f"head_hash {manifest.head_hash}\n"
        f"merkle_root {manifest.merkle_root}\n"
        f"manifest_sha256 {manifest_sha256}\n"
        f"public_key {manifest.public_key or 'none'}\n"
    ).encode()
