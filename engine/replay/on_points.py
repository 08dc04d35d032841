"""Decisions on mutations and rollbacks: what may be tried, what a restore leads to, which files it may have touched."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from instar.engine.protection import protected_among
from instar.fsm import events as e
from instar.fsm.decisions import asked_of, budget_refusal, finish_of, restored_key, undo_of
from instar.fsm.erasure import UNTRIED
from instar.fsm.errors import ReplayDiverged
from instar.fsm.policies import may_mutate
from instar.fsm.probation import concluded, limits_of
from instar.fsm.state import AgentState

from .compare import compare
from .facts import Fact
from .on_cycle import unkeyed

if TYPE_CHECKING:
    from .decisions import Check, Decider

_INTERPRETER = "{python}"


def _rejected(decider: Decider, before: AgentState, fact: Fact, event: e.MutationRejected) -> None:
    """A patch is refused untried exactly when the hourly budget is used up."""
    _judged(decider, before, fact, event)
    refused = budget_refusal(before)
    if refused is not None:
        compare(fact.seq, replace(event, reason=refused, exit_code=None, log=None), event)
    elif event.reason.startswith(UNTRIED):
        raise ReplayDiverged(fact.seq, "reason", "none of the budget, which was not used up", event.reason)


def _accepted(decider: Decider, before: AgentState, fact: Fact, event: e.MutationAccepted) -> None:
    """A patch is tried within the budget, against the tree that stood there."""
    _judged(decider, before, fact, event)
    if not may_mutate(before):
        raise ReplayDiverged(fact.seq, "type", "MutationRejected: the hourly budget is used up", "MutationAccepted")
    if not decider.facts.between(before.since, fact.seq, e.ChangeObserved):
        compare(fact.seq, before.tree, event.tree_before, "tree_before")


def _judged(decider: Decider, before: AgentState, fact: Fact, event: e.MutationRejected | e.MutationAccepted) -> None:
    """The verdict is on the task of the cycle, its patch, and the gate that the task asked for."""
    unkeyed(fact)
    cycle = before.cycle
    assert cycle is not None
    compare(fact.seq, cycle.span.first, event.task, "task")
    task = decider.facts.at(cycle.span.first, fact.seq).event
    assert isinstance(task, e.TaskQueued)
    if task.repair is None:
        compare(fact.seq, task.patch, event.patch, "patch")
        compare(fact.seq, ("", 1), (event.mutator, event.tried), "mutator")
    elif not event.tried <= task.repair.tries:
        raise ReplayDiverged(fact.seq, "tried", f"at most {task.repair.tries}", event.tried)
    if task.gate:
        asked = [_asked(part, place, event.gate) for place, part in enumerate(task.gate)]
        compare(fact.seq, asked, event.gate, "gate")
    decider.taken["mutations"] += 1


def _asked(part: str, place: int, gate: tuple[str, ...]) -> str:
    """Gives a part of the gate that was asked for; which interpreter stood for ``{python}`` only the record says."""
    if _INTERPRETER not in part or place >= len(gate):
        return part
    head, _, tail = part.partition(_INTERPRETER)
    return gate[place] if gate[place].startswith(head) and gate[place].endswith(tail) else part


def _rolling(decider: Decider, _before: AgentState, fact: Fact, event: e.RollbackStarted) -> None:
    """A rollback names, of the state at its target, what it brings back; the fold holds it to keep the rest.

    An undo brings back what the rollback did that it takes back.
    """
    unkeyed(fact)
    compare(fact.seq, fact.seq - 1, fact.cause, "cause")
    if not 1 <= event.target < fact.seq:
        raise ReplayDiverged(fact.seq, "target", f"an event before {fact.seq}", event.target)
    if event.undoes is not None:
        undone = decider.facts.at(event.undoes, fact.seq).event
        if not isinstance(undone, e.RollbackStarted):
            raise ReplayDiverged(fact.seq, "undoes", "the beginning of a rollback", type(undone).__name__)
        target, asked = undo_of(event.undoes, undone)
        compare(fact.seq, (target, asked), (event.target, replace(asked_of(event), reason=asked.reason)), "undoes")
    decider.claim(fact, event)
    decider.taken["rollbacks"] += 1


def _finished(decider: Decider, before: AgentState, fact: Fact, event: e.RollbackFinished | e.MutationApplied) -> None:
    """A restore ends with what it was begun for."""
    assert fact.cause is not None
    begun = decider.facts.at(fact.cause, fact.seq).event
    assert isinstance(begun, e.RollbackStarted | e.MutationAccepted)
    watched: int | None = before.policy.mutation.probation
    beside = True
    if isinstance(event, e.MutationApplied):  # an older version watched none, or one at a time
        watched, beside = None if event.probation is None else watched, event.beside
    compare(fact.seq, finish_of(fact.cause, begun, event.displaced, watched, beside=beside), event)
    compare(fact.seq, restored_key(fact.cause), fact.key, "key")
    decider.taken["restores"] += 1


def _watched(decider: Decider, before: AgentState, fact: Fact, event: e.ProbationEnded) -> None:
    """A probation ends as its bets stand; whether an undo was possible only the record says."""
    unkeyed(fact)
    watch = before.due
    assert watch is not None
    found, reason = concluded(watch, limits_of(watch, before))
    compare(fact.seq, watch.watched, event.watched, "watched")
    if found == "kept" or event.verdict == "undone":
        compare(fact.seq, reason, event.reason, "reason")
    elif not event.reason.startswith(reason):
        raise ReplayDiverged(fact.seq, "reason", reason, event.reason)
    decider.taken["probations"] += 1


def check_protected(decider: Decider, before: AgentState, fact: Fact, event: e.ChangeObserved) -> None:
    """What a mutation changed is none of what it may not touch."""
    assert fact.cause is not None
    applied = decider.facts.at(fact.cause, fact.seq)
    if isinstance(applied.event, e.MutationApplied):
        touched = protected_among([event.path], before.policy.mutation.protected)
        compare(fact.seq, [], touched, "path")


CHECKS: dict[type, Check] = {
    e.MutationRejected: _rejected,
    e.MutationAccepted: _accepted,
    e.RollbackStarted: _rolling,
    e.RollbackFinished: _finished,
    e.MutationApplied: _finished,
    e.ProbationEnded: _watched,
}
