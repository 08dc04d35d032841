"""Embeddings, made again in the recorded space, precision and number of threads, and compared bit for bit."""

from __future__ import annotations

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from instar.engine.effects.embedding import embed_rows, embedded, reembedded
from instar.engine.embedder import COSINE_MIN
from instar.engine.environment import threads_of
from instar.fsm.errors import BlobCorrupt, BlobMissing
from instar.fsm.events import AnyEvent, MemoryReembedded, SignalEmbedded, Span
from instar.fsm.record import Recorded
from instar.fsm.state import AgentState
from instar.store.ports import Blobs

from .comparison import Explained, Mismatch
from .scratch import ScratchBench
from .subject import Subject

SIMILARITY_FAR = 0.01
"""Cosines of units that lie further apart are not the same two vectors, rounded otherwise."""


class Embeddings(Subject):
    """The rows of a SignalEmbedded: the texts, their vectors, and how far each unit moved."""

    def again(self, bench: ScratchBench, record: Recorded, state: AgentState) -> AnyEvent:
        """Embeds what the cycle brought again."""
        assert isinstance(record.event, SignalEmbedded)
        if state.checkpoint is None:
            again = embedded(bench, state, state.since)
        else:
            with threads_of(_threads(record.event)):
                again = embedded(bench, state, state.since)
        assert isinstance(again, SignalEmbedded)
        if record.event.restored is None:
            again = replace(again, restored=None)
        return again if record.event.windows is not None else replace(again, windows=None)

    def rests_on(self, _record: Recorded, state: AgentState) -> list[Span]:
        """Names the signals of the cycle and their differences; earlier vectors are blobs."""
        return [*([state.cycle.span] if state.cycle else []), Span(state.since, state.since)]

    def rounds(self, field: str) -> bool:
        """Says that vectors and the cosines between them can be rounded otherwise."""
        return field == "vectors" or field.endswith((".similarity", ".drift")) or field.startswith("windows[")

    def explain(self, blobs: Blobs, recorded: AnyEvent, again: AnyEvent, found: list[Mismatch]) -> Explained:
        """Measures how far the vectors lie apart."""
        moved = max((_distance(one) for one in found if one.field.endswith(".similarity")), default=0.0)
        told = _compared(blobs, recorded, again)
        return Explained(told.text, told.far or moved > SIMILARITY_FAR)


class Reembeddings(Subject):
    """The vectors of a MemoryReembedded: live memory in the space of the checkpoint that was promoted."""

    def again(self, bench: ScratchBench, record: Recorded, state: AgentState) -> AnyEvent | None:
        """Embeds live memory again, or for a rollback the rows that it needed."""
        event = record.event
        if record.cause is None and isinstance(event, MemoryReembedded):
            with threads_of(_threads(event)):
                return embed_rows(bench, event.rows, event.space)
        candidate = state.cycle.candidate if state.cycle else None
        if candidate is None:
            return None
        with threads_of(_threads(record.event)):
            return reembedded(bench, state, candidate.checkpoint)

    def rests_on(self, record: Recorded, state: AgentState) -> list[Span]:
        """Names the events that live memory is in, or for a rollback those of its rows."""
        if record.cause is None and isinstance(record.event, MemoryReembedded):
            return [Span(seq, seq) for seq in sorted({seq for seq, _ in record.event.rows})]
        return list(state.memory)

    def rounds(self, field: str) -> bool:
        """Says that vectors can be rounded otherwise."""
        return field == "vectors"

    def explain(self, blobs: Blobs, recorded: AnyEvent, again: AnyEvent, _found: list[Mismatch]) -> Explained:
        """Measures how far the vectors lie apart."""
        return _compared(blobs, recorded, again)


def _threads(event: AnyEvent) -> int:
    environment = getattr(event, "environment", None)
    return environment.threads if environment else 0


def _distance(found: Mismatch) -> float:
    if isinstance(found.recorded, float) and isinstance(found.again, float):
        return abs(found.recorded - found.again)
    return float("inf")


def _compared(blobs: Blobs, recorded: AnyEvent, again: AnyEvent) -> Explained:
    if getattr(recorded, "vectors", None) == getattr(again, "vectors", None):
        return Explained()
    try:
        before, after = _vectors(blobs, recorded), _vectors(blobs, again)
    except (BlobMissing, BlobCorrupt) as error:
        return Explained(f"the vectors cannot be compared: {error}")
    if before.shape != after.shape:
        return Explained(f"recorded are vectors of shape {before.shape}, made again {after.shape}", far=True)
    lengths = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
    cosines = (before * after).sum(axis=1) / np.where(lengths > 0, lengths, 1)  # (rows,)
    row = int(np.argmin(cosines))
    largest = float(np.abs(before - after).max())
    return Explained(
        f"{int((before != after).any(axis=1).sum())} of {len(before)} vectors differ, by at most {largest:.2g}; "
        f"lowest cosine {cosines[row]:.6f}, in row {row}",
        far=not cosines[row] >= COSINE_MIN,
    )


def _vectors(blobs: Blobs, event: AnyEvent) -> NDArray[np.float64]:
    """Reads the vectors of an event, (rows, dim).

    Raises:
        BlobCorrupt: the blob is no whole number of rows.
    """
    assert isinstance(event, SignalEmbedded | MemoryReembedded)
    content = blobs.get(event.vectors) if event.vectors else b""
    if event.dim <= 0 or len(content) % (4 * event.dim):
        raise BlobCorrupt(f"{len(content)} bytes are no vectors of {event.dim} numbers")
    return np.frombuffer(content, dtype="<f4").reshape(-1, event.dim).astype(np.float64)
