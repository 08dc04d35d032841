"""Embedding → …: puts every difference and every feedback of the cycle into memory, and measures what drifted."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from instar.engine.bench import Bench
from instar.engine.differences.units import units
from instar.engine.embedding.models import active_space
from instar.engine.environment import of_text
from instar.engine.memory.rows import RowName, live_rows
from instar.engine.redact import redact
from instar.engine.runtime import Runtime
from instar.fsm.decisions import restored_among
from instar.fsm.drift import with_shift
from instar.fsm.errors import BlobErased
from instar.fsm.events import (
    ChangeObserved,
    DiffComputed,
    DiffItem,
    EmbeddedItem,
    MemoryReembedded,
    OutcomeRewarded,
    SignalEmbedded,
)
from instar.fsm.react import Effect, EffectName
from instar.fsm.record import Recorded
from instar.fsm.rows import signal_row, unit_row, units_of
from instar.fsm.state import AgentState
from instar.fsm.words import Digest, Seq
from instar.store.log import Pending

from .signals import current, signals_of
from .windows import windows

TEXT_CHARS = 8000


class Draft(NamedTuple):
    """A row of memory before it has a vector; ``before`` is the text that its unit had until now."""

    item: EmbeddedItem
    text: str
    before: str | None = None


def embed(runtime: Runtime, state: AgentState, effect: Effect) -> list[Pending]:
    """Embeds the cycle's differences, feedbacks and changed units in the space of the active checkpoint."""
    return [Pending(embedded(runtime, state, effect.answers), cause=effect.answers)]


def embedded(bench: Bench, state: AgentState, answers: Seq) -> SignalEmbedded:
    """Works out the rows of memory that a cycle brings, from its recorded differences and signals.

    Args:
        bench: where the log, the blobs, memory and the models are.
        state: the state that owes it.
        answers: the event that holds the differences; memory is taken as it stood there.
    """
    diffed = bench.reader.get(answers).event
    assert isinstance(diffed, DiffComputed)
    signals = {record.seq: record for record in signals_of(bench.reader, current(state))}
    restored = restored_among((record.seq, record.cause, record.event) for record in signals.values())
    drafts = [draft for item in diffed.items for draft in _drafts(bench, signals[item.seq], item)]
    if state.checkpoint is None:
        items = tuple(replace(draft.item, failure="no model") for draft in drafts)
        return SignalEmbedded(
            space=Digest(""),
            items=items,
            vectors=None,
            dim=0,
            environment=of_text(),
            restored=restored,
            windows=(),
        )
    space = active_space(state)
    bench.memory.catch_up(bench.reader, bench.blobs, to=answers)
    texts = [draft.text[:TEXT_CHARS] for draft in drafts]
    vectors, failures = bench.models.embed_each(space, texts, bench.progress, EffectName.EMBED)
    shifts = _shifts(bench, state, space, drafts, vectors)
    kept = [row for row, failure in enumerate(failures) if failure is None]
    position = {row: place for place, row in enumerate(kept)}
    items = tuple(
        replace(_shifted(draft.item, shifts.get(row)), row=position.get(row), failure=failures[row])
        for row, draft in enumerate(drafts)
    )
    asked = bench.reader.get(answers).hash
    return SignalEmbedded(
        space=space,
        items=items,
        vectors=bench.blobs.put(_packed(vectors, kept)) if kept else None,
        dim=int(vectors.shape[1]),
        texts=bench.blobs.put(msgspec.json.encode([texts[row] for row in kept])) if kept else None,
        environment=bench.models.environment(space),
        restored=restored,
        windows=windows(bench, state, asked, space, items, vectors),
    )


def reembedded(bench: Bench, state: AgentState, space: Digest) -> MemoryReembedded | None:
    """Embeds every live row of memory in the space of the checkpoint that is to become active; None without a row."""
    return embed_rows(bench, live_rows(bench.reader, state.memory), space)


def embed_rows(bench: Bench, rows: Sequence[RowName], space: Digest) -> MemoryReembedded | None:
    """Embeds rows of memory in another space, each from the text that was kept; None without a row."""
    if not rows:
        return None
    texts = _texts(bench, rows)
    vectors, failures = bench.models.reembed(space, texts, bench.progress)
    kept = [row for row, failure in enumerate(failures) if failure is None]
    return MemoryReembedded(
        space=space,
        rows=tuple(rows[row] for row in kept),
        vectors=bench.blobs.put(_packed(vectors, kept)),
        dim=int(vectors.shape[1]),
        environment=bench.models.environment(space),
    )


def _texts(bench: Bench, rows: Sequence[RowName]) -> list[str]:
    """Reads the texts that rows were embedded from."""
    texts: list[str] = []
    for seq, items in groupby(rows, key=lambda row: row[0]):
        event = bench.reader.get(seq).event
        assert isinstance(event, SignalEmbedded)
        assert event.texts is not None
        stored = msgspec.json.decode(bench.blobs.get(event.texts), type=list[str])
        texts += [stored[event.items[item].row or 0] for _, item in items]
    return texts


def _packed(vectors: NDArray[np.float32], rows: list[int]) -> bytes:
    return np.ascontiguousarray(vectors[rows], dtype="<f4").tobytes()


def _drafts(bench: Bench, record: Recorded, diff: DiffItem) -> list[Draft]:
    text = bench.blobs.get(diff.text).decode("utf-8", "replace") if diff.text else diff.subject
    is_verdict = isinstance(record.event, OutcomeRewarded)
    judged = bench.reader.get(record.cause or record.seq).event if is_verdict else None
    whole = Draft(signal_row(record.seq, record.cause, record.event, diff, text, judged), text)
    if isinstance(record.event, ChangeObserved):
        return [whole, *_unit_drafts(bench, record.event, diff, whole.item)]
    return [whole]


def _unit_drafts(bench: Bench, change: ChangeObserved, diff: DiffItem, whole: EmbeddedItem) -> list[Draft]:
    """One row for each unit whose meaning changed, so that its drift can be measured against its last vector."""
    if diff.kind != "code_diff" or change.after is None:
        return []
    try:
        after = units(_source(bench, change.after))
        before = units(_source(bench, change.before)) if change.before else {}
    except BlobErased:
        return []
    drafts = []
    for name in units_of(diff):
        if name in after:
            text = redact(after[name].source)
            old = redact(before[name].source) if name in before else None
            drafts.append(Draft(unit_row(whole, name, text, diff.drifts.get(name)), text, old))
    return drafts


def _source(bench: Bench, digest: Digest) -> str:
    return bench.blobs.get(digest).decode("utf-8", "replace")


def _shifts(
    bench: Bench, state: AgentState, space: Digest, drafts: list[Draft], vectors: NDArray[np.float32]
) -> dict[int, float]:
    """Measures the cosine of each unit's vector against its last one, from memory or embedded now."""
    last: dict[int, NDArray[np.float32]] = {}
    absent: list[int] = []
    for row, draft in enumerate(drafts):
        if draft.before is None:
            continue
        known = bench.memory.last_of_unit(space, draft.item.unit, state.memory)
        if known is not None:
            last[row] = known
        else:
            absent.append(row)
    if absent:
        texts = [(drafts[row].before or "")[:TEXT_CHARS] for row in absent]
        embedded, failures = bench.models.embed_each(space, texts, bench.progress, EffectName.EMBED)
        last.update({row: embedded[n] for n, row in enumerate(absent) if failures[n] is None})
    return {row: _cosine(vectors[row], vector) for row, vector in last.items()}


def _shifted(item: EmbeddedItem, cosine: float | None) -> EmbeddedItem:
    """Puts the shift of a unit's vector on top of what its syntax says."""
    drift = None if item.drift is None else with_shift(item.drift, cosine)
    return replace(item, similarity=cosine, drift=drift)


def _cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    length = float(np.linalg.norm(a) * np.linalg.norm(b))
    return round(float(np.dot(a, b)) / length, 6) if length else 0.0
