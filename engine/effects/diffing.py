"""Idle → Diffing → Embedding: takes up what waits, and computes what each signal changed."""

from __future__ import annotations

from msgspec.structs import replace

from instar.engine.bench import Bench
from instar.engine.describe import describe
from instar.engine.diff_engine import diff_change, diff_output
from instar.engine.environment import of_text
from instar.engine.redact import redact
from instar.engine.runtime import Runtime
from instar.fsm.decisions import SIGNALS, take_up, waits_for_cycle
from instar.fsm.errors import BlobErased
from instar.fsm.events import (
    ChangeObserved,
    DiffComputed,
    DiffItem,
    EffectFailed,
    FeedbackReceived,
    OutcomeRewarded,
    ProbationEnded,
)
from instar.fsm.react import Effect, EffectName
from instar.fsm.record import Recorded
from instar.fsm.rows import failure_diff, verdict_diff
from instar.fsm.state import AgentState
from instar.fsm.words import Digest, Seq
from instar.store.log import Pending

from .signals import current, signals_of


def start_cycle(runtime: Runtime, state: AgentState, _effect: Effect) -> list[Pending]:
    """Takes up the run of signals, or the one task, that has waited longest."""
    run = state.waiting[0]
    count = state.policy.cycle.signals_max
    recorded = runtime.reader.read(run.first, run.last, SIGNALS, chunk_max=count)
    signals = (record.seq for record in recorded if waits_for_cycle(record.event))
    event = take_up(run, count, signals)
    return [Pending(event, cause=event.span.last)]


def diff(runtime: Runtime, state: AgentState, effect: Effect) -> list[Pending]:
    """Computes the difference of every signal of the cycle."""
    return [Pending(differences(runtime, state), cause=effect.answers)]


def differences(bench: Bench, state: AgentState, *, by_drift: bool = True) -> DiffComputed:
    """Works out what each signal of the cycle changed, from the recorded signals and the blobs that they name.

    Args:
        bench: where the log and the blobs are.
        state: the state that owes it.
        by_drift: see ``diff_change``.
    """
    signals = signals_of(bench.reader, current(state))
    items = []
    for number, record in enumerate(signals, 1):
        item, text = _difference(bench, record, by_drift)
        items.append(replace(item, text=bench.blobs.put(text.encode("utf-8", "replace"))))
        bench.progress.report(EffectName.DIFF, number, len(signals))
    return DiffComputed(items=tuple(items), environment=of_text())


def _difference(bench: Bench, record: Recorded, by_drift: bool) -> tuple[DiffItem, str]:
    match record.event:
        case ChangeObserved(path=path, before=before, after=after):
            try:
                contents = _content(bench, before), _content(bench, after)
            except BlobErased:  # nobody can say what changed, and what is left does not come to another meaning
                contents = b"", b""
            return diff_change(record.seq, path, *contents, by_drift=by_drift)
        case FeedbackReceived() as feedback:
            return diff_output(record.seq, feedback)
        case EffectFailed(effect=name, reason=reason, detail=detail):
            return failure_diff(record.seq, record.event), redact(f"{name} failed: {reason}\n{detail}")
        case OutcomeRewarded() as verdict:
            return _verdict(bench, record, verdict, record.cause or record.seq)
        case ProbationEnded(applied=applied) as verdict:
            return _verdict(bench, record, verdict, applied)
        case other:
            raise AssertionError(f"{type(other).__name__} is no signal")


def _verdict(
    bench: Bench, record: Recorded, verdict: OutcomeRewarded | ProbationEnded, on: Seq
) -> tuple[DiffItem, str]:
    """Tells what became of a retrain or a mutation, in words that a search can find."""
    judged = bench.reader.get(on).event
    item = verdict_diff(record.seq, verdict)
    return item, redact(f"{item.kind} {verdict.verdict}: {verdict.reason}\n{describe(judged)}")


def _content(bench: Bench, digest: Digest | None) -> bytes | None:
    return bench.blobs.get(digest) if digest else None
