"""Reads everything that the log needs, and says what is missing or damaged."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from instar.engine.replay import replay
from instar.engine.trees.whole_trees import WholeTrees
from instar.fsm.errors import BlobCollected, InstarError
from instar.fsm.state import FORM, AgentState, form_of, state_digest
from instar.fsm.words import Digest, digest_of
from instar.store.blobs import BlobStore
from instar.store.follow import cursor_fault
from instar.store.read_ahead import ReadAhead
from instar.store.reader import LogReader, Row
from instar.store.schema_faults import schema_faults

from .collection_faults import collection_faults
from .named_blobs import Named, NamedBlobs, Parts, erased_blobs

_SHOWN_MAX = 8
_AT_ONCE = 256
"""Things that are read ahead together."""


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
    collected: int = 0
    """Things that an event names and that a collection took away, wholly or in part."""
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
    saved = dict(reader.saved_digests())

    def look(row: Row, state: AgentState) -> None:
        if state.head in saved:
            found.state_snapshots += 1
            digest, content = saved.pop(state.head), reader.saved_state(state.head)
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
    try:
        gone = erased_blobs(reader)
    except InstarError:  # the replay has said so already
        gone = frozenset()
    blobs = _Counted(BlobStore(reader.path.with_name("blobs"), reader), found, gone)
    everything = list(named)
    parts, trees = Parts(blobs), WholeTrees(blobs, blobs.look)
    bad: dict[str, list[Named]] = {}
    for number, one in enumerate(everything):
        if number % _AT_ONCE == 0:
            blobs.read_ahead(everything[number : number + _AT_ONCE])
        try:
            _read(blobs, parts, trees, one)
        except BlobCollected as error:
            if error.seq > one.last:
                found.collected += 1
            else:  # it was named again since, so it was stored again, and is lost
                bad.setdefault(str(error), []).append(one)
        except InstarError as error:
            bad.setdefault(str(error), []).append(one)
    found.problems += [_needed(error, ones) for error, ones in bad.items()]
    found.erased_blobs = len(blobs.gone)
    found.problems += collection_faults(reader, blobs)
    _read_rest(blobs, reader, found, gone)


def _needed(error: str, ones: list[Named]) -> str:
    """Says which events need something that is missing or damaged, themselves or in a tree or checkpoint."""
    one = min(ones, key=lambda named: named.seq)
    if len(ones) == 1:
        return f"event {one.seq} needs {one.kind} {one.digest[:12]}: {error}"
    seqs = sorted({named.seq for named in ones})
    shown = ", ".join(str(seq) for seq in seqs[:_SHOWN_MAX])
    more = f" and {len(seqs) - _SHOWN_MAX} more" if len(seqs) > _SHOWN_MAX else ""
    return f"events {shown}{more} need it, as {one.kind} {one.digest[:12]} and others: {error}"


def _read_rest(blobs: _Counted, reader: LogReader, found: Integrity, erased: frozenset[Digest]) -> None:
    """Reads every stored blob that nothing names (yet), and compares recorded sizes."""
    for digest, size in reader.stored_blobs():
        try:
            if blobs.size(digest) != size:
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


def _read(blobs: _Counted, parts: Parts, trees: WholeTrees, one: Named) -> None:
    if one.kind == "tree":
        trees.check(one.digest)
        blobs.found.trees += 1
        return
    for digest in parts.of(one.kind, one.digest):
        blobs.look(digest)
    blobs.found.checkpoints += one.kind == "checkpoint"


class _Counted:
    """Reads each blob once, and counts."""

    def __init__(self, blobs: BlobStore, found: Integrity, erased: frozenset[Digest]) -> None:
        self.found = found
        self._erased = erased
        self.seen: dict[Digest, int] = {}
        """What was read, and its size."""
        self.gone: set[Digest] = set()
        self._blobs = blobs
        self._ahead = ReadAhead(blobs)

    def read_ahead(self, named: list[Named]) -> None:
        """Reads what is asked for next, many at a time."""
        self._ahead.trees((one.digest for one in named if one.kind == "tree"), with_files=True)

    def size(self, digest: Digest) -> int:
        """Gives the size of a blob, which is read unless it was."""
        return self.seen[digest] if digest in self.seen else len(self.get(digest))

    def get(self, digest: Digest) -> bytes:
        content = self._ahead.get(digest)
        if digest not in self.seen:
            self.seen[digest] = len(content)
            self.found.blobs += 1
            self.found.blob_bytes += len(content)
        return content

    def look(self, digest: Digest) -> None:
        """Reads a blob that was not read before; one that was erased may be missing."""
        if digest in self._erased and not self.has(digest):
            self.gone.add(digest)
        elif digest not in self.seen:
            self.get(digest)

    def has(self, digest: Digest) -> bool:
        return self._blobs.has(digest)

    def files(self) -> Iterable[Digest]:
        return self._blobs.files()

    def put(self, _content: bytes, /) -> Digest:
        raise InstarError("a verification writes nothing")
