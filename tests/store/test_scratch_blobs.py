"""An overlay over the store: what is put is read back, and the store never hears of it."""

from __future__ import annotations

import pytest

from instar.fsm.errors import BlobCorrupt, BlobMissing
from instar.fsm.words import Digest, digest_of
from instar.store.scratch_blobs import ScratchBlobs, ScratchIntake
from tests.store.memory_blobs import MemoryBlobs


class ReadOnly(MemoryBlobs):
    """A store that nobody may write to."""

    def put(self, content: bytes) -> Digest:
        raise AssertionError("the store was written to")


class Damaged(ReadOnly):
    def get(self, digest: Digest) -> bytes:
        raise BlobCorrupt(digest)

    def has(self, digest: Digest) -> bool:
        return True


@pytest.fixture
def beneath() -> MemoryBlobs:
    beneath = ReadOnly()
    beneath.contents[digest_of(b"stored")] = b"stored"
    return beneath


def test_both_layers_are_read(beneath: MemoryBlobs) -> None:
    blobs = ScratchBlobs(beneath)
    made = blobs.put(b"made")
    assert made == digest_of(b"made")
    assert blobs.get(made) == b"made"
    assert blobs.get(digest_of(b"stored")) == b"stored"
    assert blobs.has(made)
    assert blobs.has(digest_of(b"stored"))
    assert not beneath.has(made)
    assert blobs.put(b"stored") == digest_of(b"stored")


def test_what_is_missing_is_noted_until_it_is_forgotten(beneath: MemoryBlobs) -> None:
    blobs = ScratchBlobs(beneath)
    gone = digest_of(b"gone")
    assert not blobs.has(gone)
    with pytest.raises(BlobMissing):
        blobs.get(gone)
    assert blobs.missing == {gone}
    made = blobs.put(b"gone")
    assert blobs.get(made) == b"gone"
    with pytest.raises(BlobMissing):
        blobs.stored(made)
    blobs.forget()
    assert not blobs.missing
    assert not blobs.has(made)


def test_what_is_damaged_is_noted() -> None:
    blobs = ScratchBlobs(Damaged())
    with pytest.raises(BlobCorrupt):
        blobs.get(digest_of(b"x"))
    assert blobs.damaged == {digest_of(b"x")}
    assert not blobs.missing


def test_intake_keeps_what_the_store_lacks(beneath: MemoryBlobs) -> None:
    blobs = ScratchIntake(beneath)
    contents = {digest_of(each): each for each in (b"stored", b"new")}
    assert blobs.lacking(contents) == {digest_of(b"new")}
    blobs.prepared(list(contents.items()))()
    parted = blobs.put_parts(iter([b"in ", b"parts"]), 8)
    assert parted == digest_of(b"in parts")
    assert blobs.get(parted) == b"in parts"
    assert blobs.get(digest_of(b"new")) == b"new"
    assert blobs.lacking([*contents, parted, digest_of(b"gone")]) == {digest_of(b"gone")}
    assert set(beneath.contents) == {digest_of(b"stored")}
