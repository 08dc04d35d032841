"""The blobs of a bundle: raw bytes under their sha256, and a list of what was left out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from instar.engine.keeping.named_blobs import NamedBlobs, Parts, erased_blobs
from instar.fsm.errors import BlobCollected, BlobCorrupt, BlobMissing, InstarError
from instar.fsm.words import Digest, Seq
from instar.store.blobs import BlobStore
from instar.store.reader import LogReader

from .form import BlobListed, Blobs, LeftOut, Wanted


def write_blobs(
    reader: LogReader, folder: Path, named: NamedBlobs, wanted: Wanted, blob_bytes_max: int | None
) -> Blobs:
    """Writes the blobs that are wanted beneath a folder, each once.

    Raises:
        BlobMissing, BlobCorrupt: the store cannot give one that was not erased.
    """
    store, gone = BlobStore(reader.path.with_name("blobs"), reader), erased_blobs(reader)
    digests: Iterable[tuple[Digest, Seq | None]] = _needed(named, store)
    if wanted == "all":
        digests = chain(digests, _stored(reader, store))
    listed: dict[Digest, BlobListed] = {}
    left_out: dict[Digest, LeftOut] = {}
    collected = store.collected()
    for digest, seq in digests:
        if digest in listed or digest in left_out:
            continue
        if digest in gone and not store.has(digest):
            left_out[digest] = LeftOut(digest, "erased", seq, None)
            continue
        if digest in collected and not store.has(digest):
            left_out[digest] = LeftOut(digest, "collected", seq, None)
            continue
        content = _blob(store, digest, seq)
        if blob_bytes_max is not None and len(content) > blob_bytes_max:
            left_out[digest] = LeftOut(digest, "too large", seq, len(content))
            continue
        path = folder / digest[:2] / digest[2:]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        listed[digest] = BlobListed(digest, len(content))
    return Blobs(
        wanted=wanted,
        blob_bytes_max=blob_bytes_max,
        listed=tuple(listed[one] for one in sorted(listed)),
        left_out=tuple(left_out[one] for one in sorted(left_out)),
    )


def _stored(reader: LogReader, store: BlobStore) -> Iterator[tuple[Digest, None]]:
    for digest, _ in reader.stored_blobs():
        yield digest, None
    for digest in store.files():
        yield digest, None


def _needed(named: NamedBlobs, store: BlobStore) -> Iterator[tuple[Digest, Seq | None]]:
    parts = Parts(store)
    for one in named:
        try:
            for digest in parts.of(one.kind, one.digest):
                yield digest, one.seq
        except BlobCollected:
            yield one.digest, one.seq  # what is left of its parts is named by what is kept, or by nothing
        except (BlobMissing, BlobCorrupt) as error:
            raise type(error)(_needs(one.seq, one.digest, error)) from error


def _blob(store: BlobStore, digest: Digest, seq: Seq | None) -> bytes:
    try:
        return store.get(digest)
    except (BlobMissing, BlobCorrupt) as error:
        raise type(error)(_needs(seq, digest, error)) from error


def _needs(seq: Seq | None, digest: Digest, error: InstarError) -> str:
    who = "the store" if seq is None else f"event {seq}"
    return f"{who} names {digest[:12]}: {error} To export the events alone: --blobs none."
