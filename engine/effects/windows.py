"""What a cycle's feedback shows of drift over time: a test for each task type of which another window is full.

What the agent was merely taught is no outcome: no standing counts it, and it says nothing of what the agent is asked.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from instar.engine.bench import Bench
from instar.engine.drift.windows import compare_windows
from instar.fsm.decisions import seed_of, windows_due
from instar.fsm.events import EmbeddedItem, WindowDrift
from instar.fsm.rewards import is_lesson
from instar.fsm.state import AgentState
from instar.fsm.values import Span
from instar.fsm.words import Digest, Seq
from instar.store.memory_row import MemoryRow


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
    if not windows_due(state, items):
        return ()
    lessons = _lessons(bench, [item.seq for item in items if _counts(item)])
    due = windows_due(state, [item for item in items if item.seq not in lessons])
    size = state.policy.drift.window
    found = []
    for task_type in due:
        before, known = _latest(bench, space, task_type, 2 * size, state.memory)
        counted = [item.task_type == task_type and _counts(item) and item.seq not in lessons for item in items]
        now = [place for place, counts in enumerate(counted) if counts]
        signals = [*(row.signal for row in before), *(items[place].seq for place in now)]
        if len(signals) < 2 * size:
            continue  # some could not be embedded, or were rolled back
        # In the first cycle of all, memory has no vectors and knows no dimension.
        sample = (np.concatenate([known, vectors[now]]) if before else vectors[now])[-2 * size :]
        found.append(_tested(task_type, signals[-2 * size :], sample, size, seed_of(asked)))
    return tuple(found)


def _latest(
    bench: Bench, space: Digest, task_type: str, count: int, within: Sequence[Span]
) -> tuple[list[MemoryRow], NDArray[np.float32]]:
    """Gives the last rows of a task type that are outcomes of the agent's work, and their vectors."""
    wanted = count
    while True:
        rows, vectors = bench.memory.latest_of_task(space, task_type, wanted, within)
        lessons = _lessons(bench, [row.signal for row in rows])
        places = [place for place, row in enumerate(rows) if row.signal not in lessons][-count:]
        if len(places) == count or len(rows) < wanted:
            return [rows[place] for place in places], vectors[places]
        wanted *= 2


def _lessons(bench: Bench, signals: Collection[Seq]) -> set[Seq]:
    return {record.seq for record in bench.reader.at(signals) if is_lesson(record.event)}


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
