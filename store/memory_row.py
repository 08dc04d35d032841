"""One row of the vector memory, as it stands beside its vector."""

from __future__ import annotations

from msgspec import Struct

from instar.fsm.events import Outcome
from instar.fsm.words import Seq

ITEM_BITS = 20
"""An event holds at most 2^20 rows of memory."""


class MemoryRow(Struct, frozen=True, gc=False, kw_only=True):
    """One row of memory: item ``item`` of the SignalEmbedded at ``seq``; ``signal`` is what it stands for.

    ``at_us`` is when the row was recorded, microseconds since 1970 UTC.
    """

    seq: Seq
    item: int
    signal: Seq
    kind: str
    unit: str
    text: str
    task_type: str | None = None
    outcome: Outcome | None = None
    replaceable: bool = True
    at_us: int = 0

    @property
    def key(self) -> int:
        """Names the row among all rows of a log: 44 bits of position, 20 bits of item."""
        return self.seq << ITEM_BITS | self.item


class Hit(Struct, frozen=True, gc=False):
    """A row and its cosine similarity to what was asked."""

    row: MemoryRow
    similarity: float
