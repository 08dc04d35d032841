"""Embedding → …: puts every difference and every feedback of the cycle into memory, and measures what drifted."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from instar.engine.models import active_space
from instar.engine.runtime import Runtime
from instar.engine.units import units
from instar.fsm.events import (
    ChangeObserved,
    CheckpointTrained,
    DiffComputed,
    DiffItem,
    EffectFailed,
    EmbeddedItem,
    FeedbackReceived,
    OutcomeRewarded,
    SignalEmbedded,
)
from instar.fsm.react import Effect
from instar.fsm.record import Recorded
from instar.fsm.state import AgentState
from instar.fsm.words import Digest
from instar.store.log import Pending

from .signals import current, signals_of

EXCERPT_CHARS = 240
TEXT_CHARS = 8000
UNITS_MAX = 64


class Draft(NamedTuple):
    """A row of memory before it has a vector; ``before`` is the text that its unit had until now."""

    item: EmbeddedItem
    text: str
    before: str | None = None


def embed(runtime: Runtime, state: AgentState, effect: Effect) -> list[Pending]:
    """Embeds the cycle's differences, feedbacks and changed units in the space of the active checkpoint."""
    diffed = runtime.reader.get(effect.answers).event
    assert isinstance(diffed, DiffComputed)
    signals = {record.seq: record for record in signals_of(runtime.reader, current(state))}
    drafts = [draft for item in diffed.items for draft in _drafts(runtime, signals[item.seq], item)]
    if state.checkpoint is None:
        items = tuple(replace(draft.item, failure="no model") for draft in drafts)
        return [Pending(SignalEmbedded(space=Digest(""), items=items, vectors=None, dim=0), cause=effect.answers)]
    space = active_space(state)
    runtime.memory.catch_up(runtime.reader, runtime.blobs)
    texts = [draft.text[:TEXT_CHARS] for draft in drafts]
    vectors, failures = runtime.models.embed_each(space, texts, runtime.progress, effect.name)
    shifts = _shifts(runtime, state, space, drafts, vectors)
    kept = [row for row, failure in enumerate(failures) if failure is None]
    position = {row: place for place, row in enumerate(kept)}
    items = tuple(
        replace(draft.item, row=position.get(row), similarity=shifts.get(row), failure=failures[row])
        for row, draft in enumerate(drafts)
    )
    content = np.ascontiguousarray(vectors[kept], dtype="<f4").tobytes()
    event = SignalEmbedded(
        space=space,
        items=items,
        vectors=runtime.blobs.put(content) if kept else None,
        dim=int(vectors.shape[1]),
        texts=runtime.blobs.put(msgspec.json.encode([texts[row] for row in kept])) if kept else None,
    )
    return [Pending(event, cause=effect.answers)]


def _drafts(runtime: Runtime, record: Recorded, diff: DiffItem) -> list[Draft]:
    text = runtime.blobs.get(diff.text).decode("utf-8", "replace") if diff.text else diff.subject
    match record.event:
        case ChangeObserved() as change:
            own_doing = record.cause is not None
            facts: dict[str, Any] = {
                "seq": record.seq,
                "monitored": change.monitored and not own_doing,
                "meaning_changed": diff.meaning_changed,
            }
            whole = EmbeddedItem(kind=diff.kind, unit=change.path, text=_excerpt(text), row=None, **facts)
            return [Draft(whole, text), *_unit_drafts(runtime, change, diff, facts)]
        case FeedbackReceived() as feedback:
            item = EmbeddedItem(
                seq=record.seq,
                kind="failure" if feedback.outcome != "pass" else "feedback",
                unit=feedback.task_type,
                text=_excerpt(feedback.input),
                row=None,
                confidence=feedback.confidence,
                outcome=feedback.outcome,
                reward=feedback.reward,
                task_type=feedback.task_type,
            )
            return [Draft(item, text)]
        case EffectFailed(effect=name):
            item = EmbeddedItem(
                seq=record.seq,
                kind="failure",
                unit=diff.subject,
                text=_excerpt(text),
                row=None,
                outcome="fail",
                task_type=f"engine:{name}",
            )
            return [Draft(item, text)]
        case OutcomeRewarded():
            trained = runtime.reader.get(record.cause or record.seq).event
            item = EmbeddedItem(
                seq=record.seq,
                kind=diff.kind,
                unit=diff.subject,
                text=_excerpt(text),
                row=None,
                replaceable=False,
                lineage=trained.lineage if isinstance(trained, CheckpointTrained) else None,
            )
            return [Draft(item, text)]
        case other:
            raise AssertionError(f"{type(other).__name__} is no signal")


def _unit_drafts(runtime: Runtime, change: ChangeObserved, diff: DiffItem, facts: dict[str, Any]) -> list[Draft]:
    """One row for each unit whose meaning changed, so that its drift can be measured against its last vector."""
    if diff.kind != "code_diff" or change.after is None:
        return []
    after = units(_source(runtime, change.after))
    before = units(_source(runtime, change.before)) if change.before else {}
    drafts = []
    for name in (*diff.units_changed, *diff.units_added)[:UNITS_MAX]:
        if name in after:
            text = after[name].source
            item = EmbeddedItem(kind="unit", unit=f"{change.path}::{name}", text=_excerpt(text), row=None, **facts)
            drafts.append(Draft(item, text, before[name].source if name in before else None))
    return drafts


def _source(runtime: Runtime, digest: Digest) -> str:
    return runtime.blobs.get(digest).decode("utf-8", "replace")


def _shifts(
    runtime: Runtime, state: AgentState, space: Digest, drafts: list[Draft], vectors: NDArray[np.float32]
) -> dict[int, float]:
    """Measures the cosine of each unit's vector against its last one, from memory or embedded now."""
    last: dict[int, NDArray[np.float32]] = {}
    absent: list[int] = []
    for row, draft in enumerate(drafts):
        if draft.before is None:
            continue
        known = runtime.memory.last_of_unit(space, draft.item.unit, state.memory)
        if known is not None:
            last[row] = known
        else:
            absent.append(row)
    if absent:
        texts = [(drafts[row].before or "")[:TEXT_CHARS] for row in absent]
        embedded, failures = runtime.models.embed_each(space, texts, runtime.progress, "embed")
        last.update({row: embedded[n] for n, row in enumerate(absent) if failures[n] is None})
    return {row: _cosine(vectors[row], vector) for row, vector in last.items()}


def _cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    length = float(np.linalg.norm(a) * np.linalg.norm(b))
    return round(float(np.dot(a, b)) / length, 6) if length else 0.0


def _excerpt(text: str) -> str:
    return " ".join(text.split())[:EXCERPT_CHARS]
