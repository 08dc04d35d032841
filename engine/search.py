"""Search in the vector memory: the rows nearest to a text, in the active space, as far as they were not rolled back."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from instar.fsm.errors import ConfigError

from .models import active_space
from .runtime import Runtime

K_MAX = 1000


class Found(Struct, frozen=True, kw_only=True):
    """A row of memory and its cosine similarity to what was asked; ``event`` is the signal that it stands for.

    ``reference`` names the row itself, for ``why`` and ``taint``.
    """

    reference: str
    event: int
    kind: str
    unit: str
    text: str
    task_type: str | None
    outcome: str | None
    similarity: float


def search(runtime: Runtime, text: str, k: int = 10, kinds: Sequence[str] | None = None) -> list[Found]:
    """Finds the ``k`` rows nearest to a text.

    Raises:
        ConfigError: the text is empty, or ``k`` is out of its range.
    """
    if not text.strip():
        raise ConfigError("the search text is empty: say what to look for")
    if not 1 <= k <= K_MAX:
        raise ConfigError(f"k is {k}; it must lie in 1 … {K_MAX}")
    state = runtime.state
    space = active_space(state)
    vectors, failures = runtime.models.embed_each(space, [text])
    if failures[0] is not None:
        raise ConfigError(f"the search text cannot be embedded: {failures[0]}")
    runtime.memory.catch_up(runtime.reader, runtime.blobs)
    hits = runtime.memory.search(space, vectors[0], k, kinds=kinds, within=state.memory)
    return [
        Found(
            reference=f"memory:{hit.row.seq}.{hit.row.item}",
            event=hit.row.signal,
            kind=hit.row.kind,
            unit=hit.row.unit,
            text=hit.row.text,
            task_type=hit.row.task_type,
            outcome=hit.row.outcome,
            similarity=round(hit.similarity, 6),
        )
        for hit in hits
    ]
