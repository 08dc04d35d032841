"""What must stay in the store: all that a kept event names, and all that a return to a kept event takes."""

from __future__ import annotations

from collections.abc import Collection

from instar.fsm.codec import decode_event
from instar.fsm.decisions import tree_at
from instar.fsm.errors import BlobMissing
from instar.fsm.events import AnyEvent, MemoryReembedded, MutationAccepted, RollbackStarted, SignalEmbedded, Span
from instar.fsm.state import AgentState
from instar.fsm.words import Digest, Seq
from instar.store.naming import Kind, below, digests_of, parts_of_checkpoint
from instar.store.ports import Blobs
from instar.store.reader import LogReader, Row


class Needs:
    """Collects digests; each tree and checkpoint is taken apart once.

    Args:
        blobs: the store.
        gone: what was erased or collected before: it may be missing.

    Attributes:
        digests: every blob that must stay.
        checkpoints: those among the needed things; the vectors of their spaces must stay too.
        spans: where in the log rows of memory are live; the texts that they were embedded from must stay.
    """

    def __init__(self, blobs: Blobs, gone: Collection[Digest]) -> None:
        self._blobs = blobs
        self._gone = gone
        self._taken: set[tuple[Kind, Digest]] = set()
        self.digests: set[Digest] = set()
        self.checkpoints: set[Digest] = set()
        self.spans: set[Span] = set()

    def event(self, event: AnyEvent) -> None:
        """Takes what an event names.

        Raises:
            BlobMissing, BlobCorrupt: a part of it is lost; nobody can tell what else it needs.
        """
        for kind, digest in digests_of(event):
            self.thing(kind, digest)
        if isinstance(event, RollbackStarted):
            self.spans.update(event.memory)

    def state(self, state: AgentState) -> None:
        """Takes what a return to a state needs."""
        tree = tree_at(state)
        if tree is not None:
            self.thing("tree", tree)
        if state.checkpoint is not None:
            self.thing("checkpoint", state.checkpoint)
        if state.trained is not None:
            self.thing("blob", state.trained)
        self.spans.update(state.memory)

    def undo(self, state: AgentState, reader: LogReader) -> None:
        """Takes what the undo of what is on probation needs, however long ago it was applied."""
        for mutation in state.mutation_probations:
            self.state(reader.state_at(Seq(mutation.accepted - 1)))
        if state.mutation_probations:  # what the engine did since is told from what others did by these trees
            first = state.mutation_probations[0].accepted
            for record in reader.read(first, types=[MutationAccepted, RollbackStarted]):
                if isinstance(record.event, MutationAccepted):
                    self.event(record.event)
                elif isinstance(record.event, RollbackStarted):
                    before = reader.state_at(Seq(record.seq - 1)).tree
                    for tree in filter(None, (before, record.event.tree)):
                        self.thing("tree", tree)
        for watch in state.checkpoint_probations:
            self.state(reader.state_at(Seq(watch.applied - 1)))

    def thing(self, kind: Kind, digest: Digest) -> None:
        """Takes a blob, tree or checkpoint and all that it is made of."""
        if (kind, digest) in self._taken:
            return
        self._taken.add((kind, digest))
        self.digests.add(digest)
        try:
            if kind == "tree":
                self._node(digest)
            elif kind == "checkpoint":
                self.checkpoints.add(digest)
                self.digests.update(parts_of_checkpoint(self._blobs, digest))
        except BlobMissing:
            if digest not in self._gone:
                raise

    def _node(self, node: Digest) -> None:
        held = below(self._blobs, node)
        self.digests.update(file.blob for file in held.files.values())
        for folder in held.folders.values():
            self.thing("tree", folder)

    def memory(self, reader: LogReader) -> None:
        """Takes, last of all, the vectors of every kept space, and the texts of every row that may be live."""
        for record in reader.read(types=[SignalEmbedded, MemoryReembedded]):
            event = record.event
            if not isinstance(event, SignalEmbedded | MemoryReembedded):
                continue
            kept = event.space in self.checkpoints
            if kept and event.vectors:
                self.digests.add(event.vectors)
            live = kept or any(span.first <= record.seq <= span.last for span in self.spans)
            if isinstance(event, SignalEmbedded) and event.texts and live:
                self.digests.add(event.texts)


def open_since(state: AgentState) -> Seq:
    """Gives the first event on which work that is not done rests: what waits, the cycle and the restore in progress."""
    begun = [run.first for run in state.waiting]
    if state.cycle is not None:
        begun += [state.cycle.span.first, state.cycle.started]
    if state.restoring is not None:
        begun.append(state.restoring.seq)
    return min(begun, default=Seq(state.head + 1))


def event_of(reader: LogReader, row: Row) -> AnyEvent:
    """Decodes the event of a raw row; of an erased one, what is left of it."""
    payload = row[10] if row[10] is not None else reader.remains(row[0])
    return decode_event(row[1], row[2], payload.encode())
