"""One event shown without the others: its row, and the path in the Merkle tree up to the root that an anchor names."""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec import Struct

from instar.fsm.errors import ConfigError, InstarError
from instar.fsm.words import Digest, Seq
from instar.store.reader import LogReader

from .anchor import anchor_at, workspace_of
from .chained_rows import chained_rows
from .form import canonical, event_line
from .merkle import MerkleTree, inclusion_path
from .signing import SigningKey

FORMAT = "instar-proof"
FORMAT_VERSION = 1


class Proof(Struct, frozen=True, kw_only=True):
    """What proves that an event is in the log.

    Attributes:
        row: the event's line as in a bundle.
        path: the hashes beside the way from its leaf to the root, the leaf's neighbour first.
        anchor: an anchor of the log, signed if there was a key; whoever kept one of the same event compares.
    """

    format: str = FORMAT
    format_version: int = FORMAT_VERSION
    row: msgspec.Raw
    path: tuple[Digest, ...]
    anchor: str


def prove(reader: LogReader, seq: Seq, *, to: Seq | None = None, key: SigningKey | None = None) -> bytes:
    """Gives the proof of one event as canonical JSON and a line feed.

    Args:
        reader: the log.
        seq: the event to show.
        to: the event whose anchor the proof leads to; the head by default.
        key: signs the anchor.

    Raises:
        ConfigError: there is no such event before ``to``.
        LogCorrupt: the chain is broken.
    """
    last = Seq(reader.head()) if to is None else to
    if not 1 <= seq <= last:
        raise ConfigError(f"there is no event {seq} among 1 to {last}")
    tree = MerkleTree()
    hashes: list[str] = []
    line, row = b"", None
    for row in chained_rows(reader, Seq(1), last):
        tree.add(row[13])
        hashes.append(row[13])
        if row[0] == seq:
            line = event_line(row)
    assert row is not None
    proof = Proof(
        row=msgspec.Raw(line.rstrip(b"\n")),
        path=tuple(inclusion_path(hashes, seq - 1)),
        anchor=anchor_at(row, tree.root(), workspace_of(reader), key).line,
    )
    return canonical(proof) + b"\n"


def write_proof(proof: bytes, path: Path) -> None:
    """Writes a proof to a file that is not there yet.

    Raises:
        ConfigError: it is there.
        InstarError: it cannot be written.
    """
    try:
        with path.open("xb") as file:
            file.write(proof)
    except FileExistsError:
        raise ConfigError(f"{path} is there already, and a proof overwrites nothing: give another name") from None
    except OSError as error:
        raise InstarError(f"the proof cannot be written to {path}: {error.strerror}") from error
