"""``instar export``: a part of the log, and what it names, for somebody who trusts nothing of ours."""

from __future__ import annotations

import tempfile
from hashlib import sha256
from pathlib import Path
from typing import get_args

import msgspec
from msgspec import Struct

from instar.engine.keeping.named_blobs import NamedBlobs
from instar.fsm.chain import GENESIS
from instar.fsm.errors import ConfigError, InstarError
from instar.fsm.events import PayloadErased
from instar.fsm.words import Digest, Seq, digest_of
from instar.store.reader import LogReader, Row

from .anchor import workspace_of
from .archive import pack
from .blobs import write_blobs
from .chained_rows import chained_rows
from .form import LeftOut, Manifest, Wanted, canonical, event_line, signed_text
from .merkle import MerkleTree
from .signing import SigningKey

_COMPRESSED = (".tar.gz", ".tar.zst", ".tar.xz", ".tar.bz2", ".tgz", ".zip")


class Exported(Struct, frozen=True, kw_only=True):
    """What was written."""

    path: Path
    workspace: str
    first: Seq
    last: Seq
    events: int
    erased: int
    head_hash: Digest
    merkle_root: Digest
    blobs: int
    blob_bytes: int
    left_out: tuple[LeftOut, ...]
    public_key: str | None


class _Events(Struct, kw_only=True):
    """What writing the events found out."""

    prev_hash: Digest = GENESIS
    head_hash: Digest = GENESIS
    count: int = 0
    bytes: int = 0
    sha256: Digest = Digest("")
    merkle_root: Digest = Digest("")
    erased: int = 0


def export(
    reader: LogReader,
    bundle: Path,
    *,
    first: Seq | None = None,
    last: Seq | None = None,
    wanted: Wanted = "named",
    blob_bytes_max: int | None = None,
    key: SigningKey | None = None,
) -> Exported:
    """Writes a bundle: whole, or not at all.

    The same part of the same log gives the same bytes under the same key.

    Args:
        reader: the log.
        bundle: a folder that is not there yet, or a file with the suffix ``.tar``.
        first: the first event; that of the log by default.
        last: the last event; the head by default.
        wanted: which blobs: ``none``, those that are ``named`` by an exported event, or ``all`` in the store.
        blob_bytes_max: leaves out larger ones, and says so in the manifest.
        key: signs the bundle; without one it says that it is not signed.

    Raises:
        ConfigError: the bundle exists, there is no such part or choice of blobs, or an erasure that the part needs
            lies beyond it.
        LogCorrupt: the chain is broken; a broken log is not worth a signature.
        BlobMissing, BlobCorrupt: an event needs a blob that the store cannot give.
    """
    head = reader.head()
    first, last = Seq(1) if first is None else first, Seq(head) if last is None else last
    _check_place(bundle)
    if wanted not in get_args(Wanted):
        raise ConfigError(f"blobs is {wanted!r}; it must be one of {', '.join(get_args(Wanted))}")
    if not 1 <= first <= last <= head:
        raise ConfigError(f"there are no events {first} to {last}: the log has events 1 to {head}")
    try:
        with tempfile.TemporaryDirectory(dir=bundle.parent, prefix=f".{bundle.name}.") as scratch:
            staged = Path(scratch) / "bundle"
            staged.mkdir()
            manifest = _write(reader, staged, (first, last, head), wanted, blob_bytes_max, key)
            if bundle.suffix == ".tar":
                pack(staged, Path(scratch) / "bundle.tar")
                staged = Path(scratch) / "bundle.tar"
            _check_place(bundle)
            staged.rename(bundle)
    except OSError as error:
        raise InstarError(
            f"the bundle {bundle} cannot be written: {error}. Make room, or name another place."
        ) from error
    return _summary(bundle, manifest)


def _check_place(bundle: Path) -> None:
    if bundle.exists() or bundle.is_symlink():
        raise ConfigError(f"{bundle} is there already, and a bundle overwrites nothing: give another name")
    if not bundle.parent.is_dir():
        raise ConfigError(f"there is no folder {bundle.parent} for the bundle")
    if bundle.name.endswith(_COMPRESSED):
        raise ConfigError(f"{bundle.name}: a bundle is a folder or a plain .tar; compress it afterwards if you like")


def _write(
    reader: LogReader,
    folder: Path,
    part: tuple[Seq, Seq, Seq],
    wanted: Wanted,
    blob_bytes_max: int | None,
    key: SigningKey | None,
) -> Manifest:
    first, last, head = part
    named = NamedBlobs(reader)
    events = _write_events(reader, folder / "events.jsonl", first, last, named if wanted != "none" else None)
    blobs = write_blobs(reader, folder / "blobs", named, wanted, blob_bytes_max)
    manifest = Manifest(
        workspace=workspace_of(reader),
        first=first,
        last=last,
        count=events.count,
        erased=events.erased,
        prev_hash=events.prev_hash,
        head_hash=events.head_hash,
        log_head=head,
        merkle_root=events.merkle_root,
        events_bytes=events.bytes,
        events_sha256=events.sha256,
        blobs=blobs,
        public_key=key.public if key else None,
    )
    content = canonical(manifest) + b"\n"
    (folder / "manifest.json").write_bytes(content)
    text = signed_text(manifest, digest_of(content))
    signature = key.sign(text) if key else "none"
    (folder / "signature").write_bytes(text + f"signature {signature}\n".encode())
    return manifest


def _write_events(reader: LogReader, path: Path, first: Seq, last: Seq, named: NamedBlobs | None) -> _Events:
    found, tree, whole = _Events(), MerkleTree(), sha256()
    erased: dict[Seq, Digest] = {}
    with path.open("xb") as file:
        for row in chained_rows(reader, first, last):
            if not found.count:
                found.prev_hash = row[12]
            line = event_line(row)
            file.write(line)
            whole.update(line)
            tree.add(row[13])
            found.head_hash = row[13]
            found.count += 1
            found.bytes += len(line)
            if row[10] is None:
                erased[row[0]] = row[11]
                found.erased += 1
            elif row[1] == PayloadErased.__name__:
                _settle(row, erased)
            if named is not None:
                named.take(row)
    for seq in erased:
        reader.remains(seq)  # raises where no event says that it was erased
        raise ConfigError(f"event {seq} was erased after event {last}: export up to that erasure, or to the head")
    found.sha256, found.merkle_root = Digest(whole.hexdigest()), tree.root()
    return found


def _settle(row: Row, erased: dict[Seq, Digest]) -> None:
    erasure = msgspec.json.decode(row[10])
    if erased.get(erasure["target"]) == erasure["payload_hash"]:
        del erased[erasure["target"]]


def _summary(bundle: Path, manifest: Manifest) -> Exported:
    return Exported(
        path=bundle,
        workspace=manifest.workspace,
        first=manifest.first,
        last=manifest.last,
        events=manifest.count,
        erased=manifest.erased,
        head_hash=manifest.head_hash,
        merkle_root=manifest.merkle_root,
        blobs=len(manifest.blobs.listed),
        blob_bytes=sum(blob.size for blob in manifest.blobs.listed),
        left_out=manifest.blobs.left_out,
        public_key=manifest.public_key,
    )
