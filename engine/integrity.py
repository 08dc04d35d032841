"""Reads everything that the log needs, and says what is missing or damaged."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from instar.fsm.errors import InstarError
from instar.fsm.state import FORM, AgentState, form_of, state_digest
from instar.fsm.words import Digest, digest_of
from instar.store.blobs import BlobStore
from instar.store.follow import cursor_fault
from instar.store.reader import LogReader, Row
from instar.store.schema_faults import schema_faults

from .named_blobs import Named, NamedBlobs, Parts, erased_blobs
from .replay import replay


class Integrity(Struct, kw_only=True):
    """What was read, and what is wrong."""

    events: int = 0
    blobs: int = 0
    blob_bytes: int = 0
    trees: int = 0
    checkpoints: int = 0
    state_snapshots: int = 0
    erased_payloads: int = 0
    erased_blobs: int = 0
    """Blobs that an event names and that are gone on purpose."""
    problems: list[str] = []


def check(reader: LogReader, *, with_blobs: bool = True) -> Integrity:
    """Verifies everything that is stored.

    The database's own structure and what keeps it append-only; the chain and the fold; each saved state and cursor;
    each blob, and each tree and checkpoint that an event names.

    Args:
        reader: the log.
        with_blobs: read every blob too; without, only the events and saved states are.
    """
    found = Integrity()
    try:
        found.problems += schema_faults(reader)
        _check(reader, found, with_blobs)
    except InstarError as error:
        found.problems.append(str(error))
    except (TypeError, ValueError, AttributeError) as error:
        if not found.problems:
            raise
        found.problems.append(f"nothing after that can be read: {error!r}")  # of columns that hold other types
    return found


def _check(reader: LogReader, found: Integrity, with_blobs: bool) -> None:
    named = NamedBlobs(reader)
    saved = {seq: (digest, content) for seq, digest, content in reader.saved_states()}

    def look(row: Row, state: AgentState) -> None:
        if state.head in saved:
            found.state_snapshots += 1
            digest, content = saved.pop(state.head)
            form = form_of(digest) or FORM
            if digest != state_digest(state, form) or digest != f"{form}:{digest_of(content.encode())}":
                found.problems.append(f"the state snapshot at event {state.head} is not what the fold gives")
        found.erased_payloads += row[10] is None
        if with_blobs:
            named.take(row)

    try:
        found.events = replay(reader, watch=look).events
    except InstarError as error:
        found.problems.append(str(error))
    found.problems += [f"there is a state snapshot at {seq}, where no event was folded" for seq in saved]
    cursors = (cursor_fault(reader, *cursor) for cursor in reader.cursors())
    found.problems += [fault for fault in cursors if fault]
    if with_blobs:
        _read_all(named, reader, found)


def _read_all(named: NamedBlobs, reader: LogReader, found: Integrity) -> None:
    blobs = _Counted(BlobStore(reader.path.with_name("blobs"), reader), found)
    parts = Parts(blobs)
    try:
        gone = erased_blobs(reader)
    except InstarError:  # the replay has said so already
        gone = frozenset()
    for one in named:
        try:
            _read(blobs, parts, one, gone)
        except InstarError as error:
            found.problems.append(f"event {one.seq} needs {one.kind} {one.digest[:12]}: {error}")
    found.erased_blobs = len(blobs.gone)
    _read_rest(blobs, reader, found, gone)


def _read_rest(blobs: _Counted, reader: LogReader, found: Integrity, erased: frozenset[Digest]) -> None:
    """Reads every stored blob that nothing names (yet), and compares recorded sizes."""
    for digest, size in reader.stored_blobs():
        try:
            if len(blobs.get(digest)) != size:
                found.problems.append(f"blob {digest[:12]} is said to have {size} bytes, and has others")
        except InstarError as error:
            found.problems.append(str(error))
    for digest in blobs.files():
        if digest in erased and digest not in blobs.seen:
            found.problems.append(f"blob {digest[:12]} was erased, and its file is still in the store: delete it")
        try:
            if digest not in blobs.seen:
                blobs.get(digest)
        except InstarError as error:
            found.problems.append(str(error))


def _read(blobs: _Counted, parts: Parts, one: Named, gone: frozenset[Digest]) -> None:
    for digest in parts.of(one.kind, one.digest):
        if digest in gone and not blobs.has(digest):
            blobs.gone.add(digest)
        elif digest not in blobs.seen:
            blobs.get(digest)
    if one.kind == "tree":
        blobs.found.trees += 1
    elif one.kind == "checkpoint":
        blobs.found.checkpoints += 1


class _Counted:
    """Reads each blob once, and counts."""

    def __init__(self, blobs: BlobStore, found: Integrity) -> None:
        self.found = found
        self.seen: set[Digest] = set()
        self.gone: set[Digest] = set()
        self._blobs = blobs

    def get(self, digest: Digest) -> bytes:
        content = self._blobs.get(digest)
        if digest not in self.seen:
            self.seen.add(digest)
            self.found.blobs += 1
            self.found.blob_bytes += len(content)
        return content

    def has(self, digest: Digest) -> bool:
        return self._blobs.has(digest)

    def files(self) -> Iterable[Digest]:
        return self._blobs.files()

    def put(self, _content: bytes, /) -> Digest:
        raise InstarError("a verification writes nothing")
