"""Decisions on signals and cycles under another policy: what is monitored, taken up, flagged, given up."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from msgspec.structs import replace

from instar.engine.changes import is_monitored
from instar.fsm import events as e
from instar.fsm.machine import next_state
from instar.fsm.policies import change_key, failure_is_final, triggers
from instar.fsm.state import AgentState
from instar.fsm.values import Trigger
from instar.fsm.words import Seq, State

from .of_mutation import check_protected

if TYPE_CHECKING:
    from instar.engine.replay.facts import Fact

    from .deciding import Deciding, Handler


def _changed(deciding: Deciding, before: AgentState, fact: Fact, event: e.ChangeObserved) -> None:
    shadow, policy = deciding.shadow, deciding.other.policy(before.policy)
    if policy.monitored != before.policy.monitored:
        deciding.decisions["monitored"] += 1
        would = is_monitored(event.path, policy.monitored)
        if would != event.monitored:
            shadow.monitored[fact.seq] = would
            told = {True: "monitored", False: "not monitored"}
            deciding.differs(
                fact,
                "monitored",
                told[event.monitored],
                told[would],
                f"{event.path} {event.change}",
                facts_at=(fact.seq,),
            )
    if policy.cycle.judged_max == before.policy.cycle.judged_max:
        seen = event.seen
    else:
        deciding.decisions["seen"] += 1
        seen = change_key(event) in shadow.judged
    if seen != event.seen:
        told = {True: "seen before, not taken up", False: "new, taken up"}
        to_run = "a change would have to be diffed and embedded" if event.seen else ""
        deciding.differs(fact, "seen", told[event.seen], told[seen], event.path, facts_at=(fact.seq,), to_run=to_run)
    if not seen:
        shadow.judged = (*shadow.judged, change_key(event))[-policy.cycle.judged_max :]
    check_protected(deciding, before, fact, event)


def _started(deciding: Deciding, before: AgentState, fact: Fact, event: e.CycleStarted) -> None:
    policy = deciding.other.policy(before.policy)
    deciding.decisions["batch"] += 1
    limited = event.count == before.policy.cycle.signals_max
    would = min(before.waiting[0].count if limited else event.count, policy.cycle.signals_max)
    if would != event.count:
        deciding.differs(
            fact,
            "batch",
            f"{event.count} signals taken up",
            f"{would} signals taken up",
            f"{before.waiting[0].count} waited, events {before.waiting[0].first}–{before.waiting[0].last}",
            facts_at=(event.span.first, event.span.last),
            undone=(fact.seq,),
            to_run="a cycle of other signals would have to be diffed and embedded",
        )


def _embedded(deciding: Deciding, before: AgentState, fact: Fact, event: e.SignalEmbedded) -> None:
    """A cycle is flagged if a trigger holds, over the facts that it embedded."""
    shadow = deciding.shadow
    deciding.decisions["flag"] += 1
    state = deciding.other.state(before, shadow)
    facts = _with_monitored(deciding, before, event)
    recorded, would = triggers(before, event), triggers(state, facts)
    now, then = next_state(before, event, fact.at_us), next_state(state, facts, fact.at_us)
    if now is not then:
        _flag_differs(deciding, fact, recorded, would, then)
    elif {trigger.policy for trigger in recorded} != {trigger.policy for trigger in would}:
        deciding.differs(
            fact,
            "trigger",
            _named(recorded),
            _named(would),
            _notes((*recorded, *would)),
            facts_at=_events(recorded, would),
        )
    if not would and all(item.outcome is None for item in event.items):
        shadow.failures = 0


def _flag_differs(
    deciding: Deciding,
    fact: Fact,
    recorded: tuple[Trigger, ...],
    would: tuple[Trigger, ...],
    then: State | None,
) -> None:
    to_run = "a data set would have to be built, and trained on if it holds enough" if then is State.FLAGGED else ""
    found = deciding.differs(
        fact,
        "flag",
        f"flagged: {_named(recorded)}" if recorded else "not flagged",
        f"flagged: {_named(would)}" if would else "not flagged",
        _notes(recorded or would),
        facts_at=_events(recorded, would),
        to_run=to_run,
    )
    if then is not State.FLAGGED:
        deciding.voids(found, everything=then is State.IDLE)


def _with_monitored(deciding: Deciding, before: AgentState, event: e.SignalEmbedded) -> e.SignalEmbedded:
    """Gives the rows as they would be with what is monitored; a change that we made ourselves never counts."""
    would = deciding.shadow.monitored
    if not any(item.seq in would for item in event.items) or before.cycle is None:
        return event
    own = {signal.seq for signal in deciding.facts.signals(before.cycle) if signal.cause is not None}
    items = tuple(
        replace(item, monitored=would[item.seq]) if item.seq in would and item.seq not in own else item
        for item in event.items
    )
    return replace(event, items=items)


def _failed(deciding: Deciding, before: AgentState, fact: Fact, event: e.EffectFailed) -> None:
    """A failure starts another cycle, unless too many came in a row."""
    if deciding.is_void(fact) or event.cancelled:
        return
    shadow = deciding.shadow
    deciding.decisions["failure"] += 1
    final = failure_is_final(deciding.other.state(before, shadow))
    shadow.failures += 1
    if final != event.final:
        told = {True: "given up: starts no cycle", False: "starts another cycle"}
        deciding.differs(
            fact,
            "failure",
            told[event.final],
            told[final],
            f"failure {shadow.failures} in a row of {event.effect}",
            facts_at=(fact.seq,),
            undone=(fact.seq,),
            to_run="a failed cycle would have to be tried again" if event.final else "",
        )


def _named(found: Iterable[Trigger]) -> str:
    return ", ".join(f"{one.policy} {one.value:.2f} against {one.threshold:.2f}" for one in found) or "no trigger"


def _notes(found: Iterable[Trigger]) -> str:
    return "; ".join(dict.fromkeys(one.note for one in found))


def _events(*found: tuple[Trigger, ...]) -> tuple[Seq, ...]:
    return tuple(sorted({seq for some in found for one in some for seq in one.events}))


HANDLERS: dict[type, Handler] = {
    e.ChangeObserved: _changed,
    e.CycleStarted: _started,
    e.SignalEmbedded: _embedded,
    e.EffectFailed: _failed,
}
