"""What a cycle's feedback shows of drift over time: a test for each task type of which another window is full."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from instar.engine.bench import Bench
from instar.engine.drift.windows import compare_windows
from instar.fsm.decisions import seed_of, windows_due
from instar.fsm.events import EmbeddedItem, WindowDrift
from instar.fsm.state import AgentState
from instar.fsm.values import Span
from instar.fsm.words import Digest, Seq


def windows(
    bench: Bench,
    state: AgentState,
    asked: Digest,
    space: Digest,
    items: Sequence[EmbeddedItem],
    vectors: NDArray[np.float32],
) -> tuple[WindowDrift, ...]:
    """Compares the latest window of each task type that is due with the one before it.

    Args:
        bench: where memory is, caught up with all before this cycle.
        state: the state that the cycle was embedded in.
        asked: hash of the event that asks for the embedding; the permutations' seed comes of it.
        space: the embedding space.
        items: the cycle's rows of memory.
        vectors: their vectors, float32 (items, dim); those of rows that failed are not looked at.
    """
    due = windows_due(state, items)
    if not due:
        return ()
    size = state.policy.drift.window
    found = []
    for task_type in due:
        before, known = bench.memory.latest_of_task(space, task_type, 2 * size, state.memory)
        now = [place for place, item in enumerate(items) if item.task_type == task_type and _counts(item)]
        signals = [*(row.signal for row in before), *(items[place].seq for place in now)]
        if len(signals) < 2 * size:
            continue  # some could not be embedded, or were rolled back
        # In the first cycle of all, memory has no vectors and knows no dimension.
        sample = (np.concatenate([known, vectors[now]]) if before else vectors[now])[-2 * size :]
        found.append(_tested(task_type, signals[-2 * size :], sample, size, seed_of(asked)))
    return tuple(found)


def _counts(item: EmbeddedItem) -> bool:
    return item.outcome is not None and item.row is not None


def _tested(task_type: str, signals: Sequence[Seq], sample: NDArray[np.float32], size: int, seed: int) -> WindowDrift:
    test = compare_windows(sample[:size], sample[size:], seed=seed)
    return WindowDrift(
        task_type=task_type,
        size=size,
        reference=Span(signals[0], signals[size - 1]),
        current=Span(signals[size], signals[-1]),
        mmd2=test.mmd2,
        p_value=test.p_value,
        effect=test.effect,
        bandwidth=test.bandwidth,
        seed=test.seed,
        permutations=test.permutations,
        farthest=tuple(signals[size + row] for row in test.farthest),
        nearest=tuple(signals[size + row] for row in test.nearest),
    )
