"""What memory needs before another checkpoint, or other rows, become active: each live row a vector in that space.

Where checkpoint and memory go back together they do have them: they were active together before. Where one goes alone,
rows may lack a vector, and are embedded first, as for a promotion.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from instar.fsm.decisions import Return
from instar.fsm.errors import InstarError, LogError, RollbackRefused
from instar.fsm.events import MemoryReembedded, RollbackStarted
from instar.store.ports import Blobs
from instar.store.reader import LogReader

from .rows import RowName, lacking

if TYPE_CHECKING:
    from instar.engine.restoring.rollback_plan import RollbackPlan
    from instar.engine.runtime import Runtime


class Switch(Struct, frozen=True, kw_only=True):
    """Rows that lack a vector; those that were tried, and the events that hold the vectors."""

    lacking: Sequence[RowName] = ()
    tried: frozenset[RowName] = frozenset()
    embedded: tuple[MemoryReembedded, ...] = ()

    @classmethod
    def of(cls, reader: LogReader, blobs: Blobs, asked: Return, event: RollbackStarted) -> Switch:
        """Finds what a rollback needs that would begin with an event.

        Raises:
            RollbackRefused: there would be rows, and no checkpoint to search them by.
        """
        parts = asked.parts
        if ("checkpoint" in parts) == ("memory" in parts) or not event.memory:
            return cls()
        if event.checkpoint is None:
            raise RollbackRefused(
                "memory has rows, and no checkpoint would be active to search them by. Nothing was moved; roll "
                "checkpoint and memory back together."
            )
        return cls(lacking=lacking(reader, blobs, event.memory, event.checkpoint))

    def covers(self, reader: LogReader, blobs: Blobs, asked: Return, event: RollbackStarted) -> bool:
        """Says whether all that lack a vector were tried."""
        return self.tried.issuperset(Switch.of(reader, blobs, asked, event).lacking)


def prepare_switch(runtime: Runtime, planned: RollbackPlan, before: Switch) -> Switch:
    """Embeds the rows that a rollback needs and that were not tried before.

    Raises:
        RollbackRefused: there is no model that could.
    """
    if ("checkpoint" in planned.asked.parts) == ("memory" in planned.asked.parts) or planned.checkpoint is None:
        return before
    memory = planned.memory if "memory" in planned.asked.parts else runtime.state.memory
    rows = [
        row for row in lacking(runtime.reader, runtime.blobs, memory, planned.checkpoint) if row not in before.tried
    ]
    if not rows:
        return before
    from instar.engine.effects.embedding import embed_rows

    try:
        event = embed_rows(runtime, rows, planned.checkpoint)
    except LogError:
        raise
    except (InstarError, ImportError) as error:
        raise RollbackRefused(
            f"{len(rows)} rows of memory have no vector in the space of checkpoint {planned.checkpoint[:12]}, and "
            f"cannot be embedded: {error}. Nothing was moved; roll checkpoint and memory back together."
        ) from error
    embedded = (*before.embedded, event) if event is not None and event.rows else before.embedded
    return Switch(tried=before.tried | frozenset(rows), embedded=embedded)
