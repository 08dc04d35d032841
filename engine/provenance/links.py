"""What each recorded event rests on: its edges to earlier events, each with a name.

The log says most of it outright: a cause, the items of a cycle, a trigger's events. The rest follows from what stood
when the event was recorded: which policy was in force, which checkpoint was active and which event had made it, which
event had brought a file to the version that a change replaced. ``Links`` keeps just that while the log is read once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from instar.fsm import events as e
from instar.fsm.policies import is_remembered
from instar.fsm.words import Digest, Seq

from .unit_vectors import Shift, UnitVectors
from .watches import Watches

Edges = Iterator[tuple[Seq | None, str]]
FIRST: Final = Seq(1)
"""WorkspaceInitialized: what stood there when the log began."""


class Links:
    """Gives the edges of each event in turn; what only a look at other rows or blobs tells is the graph's to add."""

    def __init__(self) -> None:
        self.made: dict[Digest, Seq] = {}
        """The event that first made a checkpoint."""
        self.datasets: dict[Digest, Seq] = {}
        self.files: dict[str, tuple[Seq, Digest | None]] = {}
        """For each path its latest change, and the version that this one left."""
        self.before: dict[Seq, Seq] = {}
        """For each change the event that had left the version which it replaced."""
        self.units = UnitVectors()
        self._policy = FIRST
        self._active: Digest | None = None
        self._active_since = FIRST
        self._finished: set[Seq] = set()
        self._tree: Digest | None = None
        self._trees: dict[Digest, Seq] = {}
        self._versions: dict[tuple[str, Digest], Seq] = {}
        self._reembedded: tuple[Seq, Seq | None] | None = None
        self._scored: dict[str, Seq] = {}
        self._watches = Watches()
        self._undone: Seq | None = None
        """The end of a probation whose rollback is next."""
        self._task_types: dict[Seq, str] = {}
        """Of the signals that were embedded last."""

    def of(self, seq: Seq, cause: Seq | None, event: e.AnyEvent) -> list[tuple[Seq, str]]:
        """Gives the edges of the event at a position, each once, and notes what later events may rest on."""
        handler = _HANDLERS.get(type(event), Links._other)
        return list(dict.fromkeys((parent, name) for parent, name in handler(self, seq, cause, event) if parent))

    def _stands(self, seq: Seq, tree: Digest) -> None:
        """Notes since when a tree stands: several changes of one scan lead to the same one."""
        if tree != self._tree:
            self._tree, self._trees[tree] = tree, seq

    def _held(self, checkpoint: Digest | None) -> Edges:
        if checkpoint:
            yield self.made.get(checkpoint), "holds checkpoint"
            yield (self._active_since if checkpoint == self._active else None), "active since"

    # ---- from outside ----------------------------------------------------------------------------------------------

    def _other(self, _seq: Seq, cause: Seq | None, _event: Any) -> Edges:
        yield cause, "answers"

    def _initialized(self, seq: Seq, _cause: Seq | None, event: e.WorkspaceInitialized) -> Edges:
        self._stands(seq, event.tree)
        if event.checkpoint:
            self.made[event.checkpoint] = seq
        self._active = event.checkpoint
        yield from ()

    def _adopted(self, seq: Seq, cause: Seq | None, event: e.ModelAdopted) -> Edges:
        self.made.setdefault(event.checkpoint, seq)
        self._active, self._active_since = event.checkpoint, seq
        yield cause, "answers"

    def _policy_changed(self, seq: Seq, cause: Seq | None, _event: e.PolicyChanged) -> Edges:
        self._policy = seq
        yield cause, "answers"

    def _feedback(self, _seq: Seq, cause: Seq | None, _event: e.FeedbackReceived) -> Edges:
        yield cause, "outcome of"

    def _changed(self, seq: Seq, cause: Seq | None, event: e.ChangeObserved) -> Edges:
        yield cause, "written by"
        if cause is not None and event.after is not None:
            yield self._brought_back(cause, event.path, event.after), "brings back"
        yield self._policy, "under policy"
        version, left = self.files.get(event.path, (FIRST, event.before))
        if event.before is not None and left == event.before:
            self.before[seq] = version
            yield version, "version before"
        self.files[event.path] = (seq, event.after)
        if event.after is not None:
            self._versions[event.path, event.after] = seq
        self._stands(seq, event.tree)

    def _brought_back(self, cause: Seq, path: str, after: Digest) -> Seq | None:
        """Finds where a restored version came from; a mutation's own versions are in its patch."""
        return self._versions.get((path, after), FIRST) if cause in self._finished else None

    def _skipped(self, seq: Seq, cause: Seq | None, event: e.InputSkipped) -> Edges:
        if event.tree:
            self._stands(seq, event.tree)
        yield cause, "answers"

    def _captured(self, seq: Seq, _cause: Seq | None, event: e.TreeCaptured) -> Edges:
        self._stands(seq, event.tree)
        yield from ()

    def _snapshot(self, _seq: Seq, cause: Seq | None, event: e.SnapshotTaken) -> Edges:
        yield cause, "answers"
        yield from self._held(event.checkpoint)
        yield self._trees.get(event.tree), "tree since"

    def _erased(self, _seq: Seq, _cause: Seq | None, event: e.PayloadErased) -> Edges:
        yield event.target, "erases"

    # ---- the cycle -------------------------------------------------------------------------------------------------

    def _started(self, _seq: Seq, _cause: Seq | None, _event: e.CycleStarted) -> Edges:
        yield self._policy, "under policy"

    def _diffed(self, _seq: Seq, cause: Seq | None, event: e.DiffComputed) -> Edges:
        yield cause, "in cycle"
        for item in event.items:
            yield item.seq, "compares"
            yield self.before.get(item.seq), "against"

    def _embedded(self, seq: Seq, cause: Seq | None, event: e.SignalEmbedded) -> Edges:
        yield cause, "embeds"
        self._task_types = {item.seq: item.task_type for item in event.items if item.task_type}
        for item in event.items:
            yield item.seq, "row"
        if event.space:
            yield self.made.get(event.space), "space"
            yield (self._active_since if event.space == self._active else None), "active since"
        for shift in self.units.embedded(seq, event):
            yield from _measured(shift)
        yield self._policy, "under policy"

    def _flagged(self, _seq: Seq, cause: Seq | None, event: e.RetrainFlagged) -> Edges:
        yield cause, "flagged on"
        for trigger in event.triggers:
            for seq in trigger.events:
                yield seq, "trigger"
            if trigger.policy == "feedback":
                for task_type in dict.fromkeys(self._task_types.get(seq, "") for seq in trigger.events):
                    yield self._scored.get(task_type), "standing"
            if trigger.policy == "semantic_drift" and cause is not None:
                for shift in self.units.shifts.get(cause, {}).values():
                    if shift.signal in trigger.events:
                        yield from _measured(shift)
        yield self._policy, "under policy"

    def _generated(self, seq: Seq, cause: Seq | None, event: e.DatasetGenerated) -> Edges:
        self.datasets[event.dataset] = seq
        yield cause, "asked by"
        yield (self.made.get(event.space) if event.space else None), "space"
        yield self._policy, "under policy"

    def _trained(self, seq: Seq, cause: Seq | None, event: e.CheckpointTrained) -> Edges:
        if event.brought is None:
            yield cause, "dataset"
            yield self.made.get(event.base), "weights"
        else:
            yield cause, "judged on"
            yield event.brought, "brought by"
            yield self.made.get(event.checkpoint), "weights"
        yield (self._active_since if event.base == self._active else None), "base"
        self.made.setdefault(event.checkpoint, seq)

    def _embedded_again(self, seq: Seq, cause: Seq | None, event: e.MemoryReembedded) -> Edges:
        yield self.made.get(event.space, cause), "space"
        for embedded in dict.fromkeys(embedded for embedded, _ in event.rows):
            yield embedded, "rows"
        self.units.embedded_again(event)
        self._reembedded = (seq, cause)

    def _rewarded(self, seq: Seq, cause: Seq | None, event: e.OutcomeRewarded) -> Edges:
        yield cause, ("judges" if is_remembered(event) else "follows")
        if self._reembedded and self._reembedded[1] == cause:
            yield self._reembedded[0], "after re-embedding"
        for reward in event.rewards:
            yield reward.seq, "scores"
            self._scored[reward.task_type] = seq
        self._watches.rewarded(seq, event)
        yield self._policy, "under policy"
        if event.verdict == "promoted" and event.checkpoint:
            self._active, self._active_since = event.checkpoint, seq

    def _planned(self, _seq: Seq, cause: Seq | None, event: e.PlanChosen) -> Edges:
        yield cause, "plans on"
        yield self._policy, "under policy"
        for step in event.steps:
            since = self._scored.get(step.task_type)
            yield (since if since != cause else None), "standing"

    def _failed(self, _seq: Seq, cause: Seq | None, _event: e.EffectFailed) -> Edges:
        yield cause, "while answering"
        yield self._policy, "under policy"

    # ---- mutation and rollback -------------------------------------------------------------------------------------

    def _judged(self, _seq: Seq, cause: Seq | None, event: e.MutationRejected | e.MutationAccepted) -> Edges:
        yield cause, "in cycle"
        yield event.task, "tries"
        yield self._policy, "under policy"
        yield (self._trees.get(self._tree) if self._tree else None), "tree since"

    def _applied(self, seq: Seq, cause: Seq | None, event: e.MutationApplied) -> Edges:
        yield cause, "carries out"
        yield event.task, "tries"
        self._stands(seq, event.tree)
        self._watches.applied(seq, cause or seq, event)

    def _watched(self, seq: Seq, cause: Seq | None, event: e.ProbationEnded) -> Edges:
        yield event.applied, "watches"
        yield cause, "rewards since"
        for rewarded in self._watches.ended(event):
            yield rewarded, "rewards since"
        yield self._policy, "under policy"
        self._undone = seq if event.verdict == "undone" else None

    def _rolling(self, seq: Seq, cause: Seq | None, event: e.RollbackStarted) -> Edges:
        yield event.target, "back to"
        yield event.undoes, "takes back"
        yield self._undone, "after probation"
        self._watches.rolled_back(seq, event, self._active, after_probation=self._undone is not None)
        self._undone = None
        yield (self.made.get(event.checkpoint) if event.checkpoint else None), "holds checkpoint"
        yield self._trees.get(event.tree), "tree since"
        yield (self.datasets.get(event.trained) if event.trained else None), "learned last"
        yield cause, "decided at"
        if event.checkpoint != self._active:
            self._active, self._active_since = event.checkpoint, seq
        self.units.rolled_back(event)

    def _rolled(self, seq: Seq, cause: Seq | None, event: e.RollbackFinished) -> Edges:
        yield cause, "finishes"
        self._finished.add(seq)
        self._stands(seq, event.tree)


def _measured(shift: Shift) -> Edges:
    yield shift.before, "drift against"
    yield shift.before_signal, "shift from"


_HANDLERS: Final[dict[type, Callable[[Links, Seq, Seq | None, Any], Edges]]] = {
    e.ChangeObserved: Links._changed,
    e.FeedbackReceived: Links._feedback,
    e.TaskQueued: Links._other,
    e.InputSkipped: Links._skipped,
    e.TreeCaptured: Links._captured,
    e.WorkspaceInitialized: Links._initialized,
    e.ModelAdopted: Links._adopted,
    e.PolicyChanged: Links._policy_changed,
    e.SnapshotTaken: Links._snapshot,
    e.PayloadErased: Links._erased,
    e.BlobsCollected: Links._other,
    e.CycleStarted: Links._started,
    e.DiffComputed: Links._diffed,
    e.SignalEmbedded: Links._embedded,
    e.RetrainFlagged: Links._flagged,
    e.DatasetGenerated: Links._generated,
    e.TrainingProgressed: Links._other,
    e.CheckpointTrained: Links._trained,
    e.MemoryReembedded: Links._embedded_again,
    e.OutcomeRewarded: Links._rewarded,
    e.PlanChosen: Links._planned,
    e.EffectFailed: Links._failed,
    e.MutationRejected: Links._judged,
    e.MutationAccepted: Links._judged,
    e.MutationApplied: Links._applied,
    e.ProbationEnded: Links._watched,
    e.RollbackStarted: Links._rolling,
    e.RollbackFinished: Links._rolled,
}
