"""Decisions on what came from outside: whether a change was seen and is monitored, what caused it, under which key."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from instar.engine.changes import is_monitored
from instar.fsm import events as e
from instar.fsm.decisions import shell_key, skipped_key, snapshot_of
from instar.fsm.errors import ReplayDiverged
from instar.fsm.retention import cutoff_us, kept_points
from instar.fsm.state import AgentState

from .compare import compare
from .facts import Fact
from .on_points import check_protected

if TYPE_CHECKING:
    from .decisions import Check, Decider

_monitored = lru_cache(maxsize=4096)(is_monitored)


def _begun(_decider: Decider, _before: AgentState, fact: Fact, _event: e.WorkspaceInitialized | e.ModelAdopted) -> None:
    _uncaused(fact)
    _unkeyed(fact)


def _changed(decider: Decider, before: AgentState, fact: Fact, event: e.ChangeObserved) -> None:
    """A change is monitored if the policy in force says so; one that we made names the event that finished it."""
    compare(fact.seq, _monitored(event.path, before.policy.monitored), event.monitored, "monitored")
    _unkeyed(fact)
    if fact.cause is not None:
        _own_doing(decider, fact, event)
        check_protected(decider, before, fact, event)
    decider.taken["changes"] += 1


def _own_doing(decider: Decider, fact: Fact, event: e.ChangeObserved) -> None:
    """The changes that a restore made follow the event that finished it, and lead to its tree."""
    assert fact.cause is not None
    finished = decider.facts.at(fact.cause, fact.seq)
    if not isinstance(finished.event, e.RollbackFinished | e.MutationApplied):
        raise ReplayDiverged(fact.seq, "cause", "none, or the end of a restore", fact.cause)
    compare(fact.seq, finished.event.tree, event.tree, "tree")
    if fact.cause != fact.seq - 1:
        before = decider.facts.at(fact.seq - 1, fact.seq)  # type: ignore[arg-type]
        if not isinstance(before.event, e.ChangeObserved) or before.cause != fact.cause:
            raise ReplayDiverged(fact.seq, "cause", before.cause, fact.cause)


def _feedback(decider: Decider, _before: AgentState, fact: Fact, event: e.FeedbackReceived) -> None:
    """The outcome of a shell command names its task; other feedback comes from outside, with its own key if any."""
    if fact.cause is None:
        return
    queued = decider.facts.at(fact.cause, fact.seq).event
    if not isinstance(queued, e.TaskQueued) or queued.task != "shell":
        raise ReplayDiverged(fact.seq, "cause", "none, or a shell command that was queued", fact.cause)
    compare(fact.seq, shell_key(fact.cause), fact.key, "key")
    compare(fact.seq, "pass" if event.exit_code == 0 else "fail", event.outcome, "outcome")
    decider.taken["outcomes of commands"] += 1


def _task(_decider: Decider, _before: AgentState, fact: Fact, _event: e.TaskQueued) -> None:
    _uncaused(fact)


def _skipped(decider: Decider, _before: AgentState, fact: Fact, event: e.InputSkipped) -> None:
    """What could not be read of a log file is recorded once, under a key of its file and reason."""
    _uncaused(fact)
    if event.source == "logs":
        if fact.erased:
            decider.untaken["keys of what was skipped: erased"] += 1
        else:
            compare(fact.seq, skipped_key(event), fact.key, "key")


def _captured(_decider: Decider, before: AgentState, fact: Fact, event: e.TreeCaptured) -> None:
    _uncaused(fact)
    if event.tree == before.tree:
        raise ReplayDiverged(fact.seq, "tree", "another tree than before", event.tree)


def _policy(_decider: Decider, before: AgentState, fact: Fact, event: e.PolicyChanged) -> None:
    _uncaused(fact)
    _unkeyed(fact)
    if event.policy == before.policy:
        raise ReplayDiverged(fact.seq, "policy", "another policy than the one in force", "the same")


def _snapshot(decider: Decider, before: AgentState, fact: Fact, event: e.SnapshotTaken) -> None:
    """A snapshot names the tree and the checkpoint that stood there."""
    _uncaused(fact)
    _unkeyed(fact)
    compare(fact.seq, snapshot_of(before, event.name, event.reason), event)
    decider.taken["snapshots"] += 1


def _erased(decider: Decider, _before: AgentState, fact: Fact, event: e.PayloadErased) -> None:
    """An erasure names the hash of what it erased, which stays in the chain; what it leaves is of the same type."""
    target = decider.facts.at(event.target, fact.seq)
    compare(fact.seq, target.payload_hash, event.payload_hash, "payload_hash")
    decider.taken["erasures"] += 1


def _collected(decider: Decider, _before: AgentState, fact: Fact, event: e.BlobsCollected) -> None:
    """A collection keeps what its retention says: all that is young, and of the older events the points that count."""
    _uncaused(fact)
    _unkeyed(fact)
    latest = cutoff_us(event.retention, fact.at_us)
    if event.cutoff_us > latest:
        raise ReplayDiverged(fact.seq, "cutoff_us", f"at most {latest}", event.cutoff_us)
    compare(fact.seq, decider.facts.first_after(event.cutoff_us, fact.seq), event.kept_from, "kept_from")
    compare(
        fact.seq, kept_points(event.retention, event.kept_from, decider.facts.points(fact.seq)), event.points, "points"
    )
    decider.taken["collections"] += 1


def _uncaused(fact: Fact) -> None:
    compare(fact.seq, None, fact.cause, "cause")


def _unkeyed(fact: Fact) -> None:
    compare(fact.seq, None, fact.key, "key")


CHECKS: dict[type, Check] = {
    e.WorkspaceInitialized: _begun,
    e.ModelAdopted: _begun,
    e.ChangeObserved: _changed,
    e.FeedbackReceived: _feedback,
    e.TaskQueued: _task,
    e.InputSkipped: _skipped,
    e.TreeCaptured: _captured,
    e.PolicyChanged: _policy,
    e.SnapshotTaken: _snapshot,
    e.PayloadErased: _erased,
    e.BlobsCollected: _collected,
}
