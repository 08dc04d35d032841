"""Idle → Diffing → Embedding: takes up what waits, and computes what each signal changed."""

from __future__ import annotations

from typing import Literal

from msgspec.structs import replace

from instar.engine.describe import describe
from instar.engine.diff_engine import diff_change, diff_output
from instar.engine.redact import redact
from instar.engine.runtime import Runtime
from instar.fsm.events import (
    ChangeObserved,
    CycleStarted,
    DiffComputed,
    DiffItem,
    EffectFailed,
    FeedbackReceived,
    OutcomeRewarded,
    Span,
)
from instar.fsm.react import Effect
from instar.fsm.record import Recorded
from instar.fsm.state import AgentState
from instar.fsm.words import Digest, Seq
from instar.store.log import Pending

from .signals import SIGNALS, current, signals_of, starts_cycle


def start_cycle(runtime: Runtime, state: AgentState, _effect: Effect) -> list[Pending]:
    """Takes up the run of signals, or the one task, that has waited longest."""
    run = state.waiting[0]
    span, count = Span(run.first, run.last), run.count
    limit = state.policy.cycle.signals_max
    if run.count > limit:
        taken: list[Seq] = []
        for record in runtime.reader.read(run.first, run.last, SIGNALS):
            if starts_cycle(record):
                taken.append(record.seq)
            if len(taken) == limit:
                break
        span, count = Span(run.first, taken[-1]), limit
    return [Pending(CycleStarted(entry=run.entry, span=span, count=count), cause=span.last)]


def diff(runtime: Runtime, state: AgentState, effect: Effect) -> list[Pending]:
    """Computes the difference of every signal of the cycle."""
    signals = signals_of(runtime.reader, current(state))
    items = []
    for number, record in enumerate(signals, 1):
        item, text = _difference(runtime, record)
        items.append(replace(item, text=runtime.blobs.put(text.encode("utf-8", "replace"))))
        runtime.progress.report(effect.name, number, len(signals))
    return [Pending(DiffComputed(items=tuple(items)), cause=effect.answers)]


def _difference(runtime: Runtime, record: Recorded) -> tuple[DiffItem, str]:
    match record.event:
        case ChangeObserved(path=path, before=before, after=after):
            return diff_change(record.seq, path, _content(runtime, before), _content(runtime, after))
        case FeedbackReceived() as feedback:
            return diff_output(record.seq, feedback)
        case EffectFailed(effect=name, reason=reason, detail=detail):
            item = DiffItem(
                seq=record.seq, kind="failure", subject=f"engine:{name}", similarity=0.0, meaning_changed=False
            )
            return item, f"{name} failed: {reason}\n{detail}"
        case OutcomeRewarded() as verdict:
            return _verdict(runtime, record, verdict)
        case other:
            raise AssertionError(f"{type(other).__name__} is no signal")


def _verdict(runtime: Runtime, record: Recorded, verdict: OutcomeRewarded) -> tuple[DiffItem, str]:
    """Tells what became of a retrain or a mutation, in words that a search can find."""
    kind: Literal["retrain", "mutation"] = "retrain" if verdict.subject == "checkpoint" else "mutation"
    judged = runtime.reader.get(record.cause or record.seq).event
    told = f"{kind} {verdict.verdict}: {verdict.reason}\n{describe(judged)}"
    item = DiffItem(seq=record.seq, kind=kind, subject=kind, similarity=1.0, meaning_changed=False)
    return item, redact(told)


def _content(runtime: Runtime, digest: Digest | None) -> bytes | None:
    return runtime.blobs.get(digest) if digest else None
