"""To which events of a log one can return with a given set of blobs."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from instar.fsm.decisions import tree_at
from instar.fsm.errors import BlobCorrupt, BlobMissing
from instar.fsm.events import Span
from instar.fsm.state import AgentState
from instar.fsm.words import Digest, Seq
from instar.store.naming import below, digests_of, parts_of_checkpoint
from instar.store.ports import Blobs
from instar.store.read_ahead import ReadAhead
from instar.store.reader import LogReader, apply


class Reach:
    """Judges states; each tree node and checkpoint once.

    Args:
        blobs: the store, as it is.
        stands: says whether a blob is among those that count.
    """

    def __init__(self, blobs: Blobs, stands: Callable[[Digest], bool]) -> None:
        self._blobs = blobs
        self._stands = stands
        self._whole: dict[Digest, bool] = {}

    def __call__(self, state: AgentState) -> bool:
        """Says whether code and checkpoint of a state can be brought back."""
        tree = tree_at(state)
        if tree is None or not self._known(tree, self._node):
            return False
        return state.checkpoint is None or self._known(state.checkpoint, self._checkpoint)

    def _known(self, digest: Digest, look: Callable[[Digest], bool]) -> bool:
        if digest not in self._whole:
            try:
                self._whole[digest] = self._stands(digest) and look(digest)
            except (BlobMissing, BlobCorrupt):
                self._whole[digest] = False
        return self._whole[digest]

    def _node(self, node: Digest) -> bool:
        held = below(self._blobs, node)
        if not all(self._stands(file.blob) for file in held.files.values()):
            return False
        return all(self._known(folder, self._node) for folder in held.folders.values())

    def _checkpoint(self, checkpoint: Digest) -> bool:
        return all(self._stands(part) for part in parts_of_checkpoint(self._blobs, checkpoint))


def lost_between(reader: LogReader, last: Seq, before: Reach, after: Reach, ahead: ReadAhead) -> tuple[Span, ...]:
    """Gives the events up to ``last`` to which one can return before and not after, as spans.

    Args:
        reader: the log.
        last: the last event that is looked at.
        before: judges what is stored.
        after: judges what will be.
        ahead: the store that both have.
    """
    spans: list[Span] = []
    for seq, lost in _judged(reader, last, before, after, ahead):
        if not lost:
            continue
        if spans and spans[-1].last == seq - 1:
            spans[-1] = Span(spans[-1].first, seq)
        else:
            spans.append(Span(seq, seq))
    return tuple(spans)


def _judged(reader: LogReader, last: Seq, before: Reach, after: Reach, ahead: ReadAhead) -> Iterator[tuple[Seq, bool]]:
    state = AgentState()
    point: tuple[Digest | None, Digest | None] | None = None
    lost = False
    for rows in reader.chunks(1, last):
        records = [reader.decode(row) for row in rows]
        ahead.trees(digest for one in records for kind, digest in digests_of(one.event) if kind == "tree")
        for record in records:
            state = apply(state, record)
            here = (tree_at(state), state.checkpoint)
            if here != point:
                point, lost = here, before(state) and not after(state)
            yield record.seq, lost
