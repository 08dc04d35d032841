"""Decisions within a cycle: what it takes up, what its differences and rows of memory copy, how it fails."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from msgspec.structs import replace

from instar.fsm import events as e
from instar.fsm.decisions import restored_among, seed_of, take_up, windows_due
from instar.fsm.erasure import ERASED
from instar.fsm.errors import ReplayDiverged
from instar.fsm.react import react
from instar.fsm.rows import failure_diff, outcome_diff, signal_row, unit_row, units_of, verdict_diff
from instar.fsm.state import AgentState
from instar.fsm.values import DiffItem, EmbeddedItem
from instar.fsm.words import Digest, Seq

from .compare import compare
from .facts import Fact

if TYPE_CHECKING:
    from .decisions import Check, Decider

NO_MODEL = "no model"
_FILE_KINDS = ("code_diff", "text_diff", "binary_diff")


def unkeyed(fact: Fact) -> None:
    """The outcome of an effect stands under no key."""
    compare(fact.seq, None, fact.key, "key")


def _started(decider: Decider, before: AgentState, fact: Fact, event: e.CycleStarted) -> None:
    """A cycle takes up all that waits first, or as many as the policy lets it.

    Signals may have come between the look at the state and the record: whatever waited when the machine came to rest
    must be among what is taken up.
    """
    unkeyed(fact)
    run, most = before.waiting[0], before.policy.cycle.signals_max
    if event.count < run.count:
        waiting = decider.facts.waiting
        taken = [one.seq for one in waiting(event.span)]
        rested = e.Span(Seq(event.span.last + 1), before.since)
        left_out = event.count < most and next(waiting(rested), None) is not None
        if left_out or len(taken) != event.count or taken[-1] != event.span.last:
            signals = [one.seq for one in islice(waiting(e.Span(run.first, run.last)), most)]
            compare(fact.seq, take_up(run, most, signals), event)
    decider.taken["cycles"] += 1


def _diffed(decider: Decider, before: AgentState, fact: Fact, event: e.DiffComputed) -> None:
    """There is one difference for each signal, in order, and it says of the signal what the signal says."""
    unkeyed(fact)
    signals = decider.signals(before)
    compare(fact.seq, [signal.seq for signal in signals], [item.seq for item in event.items], "items.seq")
    for place, (signal, item) in enumerate(zip(signals, event.items, strict=True)):
        compare(fact.seq, _diff(signal, item), item, f"items[{place}]")
    decider.taken["differences"] += len(signals)


def _diff(signal: Fact, item: DiffItem) -> DiffItem:
    """Gives a difference as far as the signal alone determines it; what was measured is taken as recorded."""
    match signal.event:
        case e.ChangeObserved(path=path):
            return replace(item, subject=path, kind=item.kind if item.kind in _FILE_KINDS else _FILE_KINDS[1])
        case e.FeedbackReceived() as feedback:
            expected = outcome_diff(signal.seq, feedback, item.similarity)
            return replace(expected, meaning_changed=_rounded(expected, item), text=item.text)
        case e.EffectFailed() as failure:
            return replace(failure_diff(signal.seq, failure), text=item.text)
        case e.OutcomeRewarded() | e.ProbationEnded() as verdict:
            return replace(verdict_diff(signal.seq, verdict), text=item.text)
        case other:
            raise AssertionError(f"{type(other).__name__} is no signal")


def _rounded(expected: DiffItem, item: DiffItem) -> bool:
    """A similarity that was rounded up to 1 may still have meant a change."""
    return item.meaning_changed if expected.similarity == 1.0 else expected.meaning_changed


def _embedded(decider: Decider, before: AgentState, fact: Fact, event: e.SignalEmbedded) -> None:
    """Each difference has its row of memory, which says of the signal what the signal says; a file's units follow."""
    unkeyed(fact)
    compare(fact.seq, before.checkpoint or Digest(""), event.space, "space")
    diffed = decider.facts.at(fact.cause or fact.seq, fact.seq).event
    assert isinstance(diffed, e.DiffComputed)
    signals = decider.signals(before)
    rows = iter(enumerate(event.items))
    nearest = next(rows, None)
    for signal, diff in zip(signals, diffed.items, strict=True):
        whole = _row(decider, signal, diff)
        if nearest is None:
            raise ReplayDiverged(fact.seq, "items", f"a row for event {signal.seq}", "none")
        place, item = nearest
        compare(fact.seq, _measured(whole, item, signal), item, f"items[{place}]")
        nearest = _units(fact, whole, diff, rows, signal)
    if nearest is not None:
        raise ReplayDiverged(fact.seq, "items.length", nearest[0], len(event.items))
    if event.restored is not None:  # an older version did not say
        restored = restored_among((signal.seq, signal.cause, signal.event) for signal in signals)
        compare(fact.seq, restored, event.restored, "restored")
    _check_windows(decider, before, fact, event)
    _check_vectors(fact, event)
    decider.taken["rows of memory"] += len(event.items)


def _row(decider: Decider, signal: Fact, diff: DiffItem) -> EmbeddedItem:
    is_verdict = isinstance(signal.event, e.OutcomeRewarded)
    judged = decider.facts.at(signal.cause or signal.seq, signal.seq).event if is_verdict else None
    return signal_row(signal.seq, signal.cause, signal.event, diff, "", judged)


def _measured(expected: EmbeddedItem, item: EmbeddedItem, signal: Fact) -> EmbeddedItem:
    """Takes from the recorded row what was measured, and the text where the log's own facts do not hold it."""
    quoted = isinstance(signal.event, e.FeedbackReceived) and not signal.erased and item.failure != ERASED
    text = expected.text if quoted else item.text
    return replace(expected, text=text, row=item.row, failure=item.failure)


def _units(
    fact: Fact, whole: EmbeddedItem, diff: DiffItem, rows: Iterator[tuple[int, EmbeddedItem]], signal: Fact
) -> tuple[int, EmbeddedItem] | None:
    """Goes over the rows of a changed file's units, which follow its own; gives the first row that is none of them."""
    names = list(units_of(diff)) if diff.kind == "code_diff" and isinstance(signal.event, e.ChangeObserved) else []
    for place, item in rows:
        if item.kind != "unit" or item.seq != whole.seq:
            return place, item
        name = item.unit.removeprefix(f"{whole.unit}::")
        if name not in names:
            raise ReplayDiverged(fact.seq, f"items[{place}].unit", f"a unit of {whole.unit} that changed", item.unit)
        del names[: names.index(name) + 1]
        expected = unit_row(whole, name, "", diff.drifts.get(name), item.similarity)
        compare(fact.seq, _measured(expected, item, signal), item, f"items[{place}]")
    return None


def _check_windows(decider: Decider, before: AgentState, fact: Fact, event: e.SignalEmbedded) -> None:
    """Windows are tested where another one is full, under the seed of the asking event; what was measured is taken."""
    if event.windows is None:  # an older version tested none
        return
    due = windows_due(before, event.items) if event.space else ()
    tested = [test.task_type for test in event.windows]
    compare(fact.seq, [name for name in due if name in tested], tested, "windows")
    seed = seed_of(decider.facts.at(fact.cause or fact.seq, fact.seq).hash)
    for place, test in enumerate(event.windows):
        compare(fact.seq, (before.policy.drift.window, seed), (test.size, test.seed), f"windows[{place}]")
    decider.taken["windows"] += len(tested)


def _check_vectors(fact: Fact, event: e.SignalEmbedded) -> None:
    """Rows have vectors one after the other, but where embedding failed; without a model none has one."""
    if not event.space:
        told = [(item.row, item.failure) for item in event.items]
        compare(
            fact.seq, [(None, item.failure if fact.erased else NO_MODEL) for item in event.items], told, "items.row"
        )
        return
    rows = [item.row for item in event.items if item.row is not None]
    ordered = rows == sorted(set(rows)) if fact.erased else rows == list(range(len(rows)))
    if not ordered or any((item.row is None) != (item.failure is not None) for item in event.items):
        raise ReplayDiverged(fact.seq, "items.row", "the rows of the vectors in order, but where one failed", rows)
    compare(fact.seq, bool(rows) or fact.erased, event.vectors is not None or fact.erased, "vectors")


def _failed(decider: Decider, before: AgentState, fact: Fact, event: e.EffectFailed) -> None:
    """What failed is the effect that was owed; the fold compares whether it was the last one that starts a cycle."""
    unkeyed(fact)
    owed = react(before)
    compare(fact.seq, owed.name if owed else None, event.effect, "effect")
    decider.taken["failures"] += 1


CHECKS: dict[type, Check] = {
    e.CycleStarted: _started,
    e.DiffComputed: _diffed,
    e.SignalEmbedded: _embedded,
    e.EffectFailed: _failed,
}
