"""One line about an event, for people."""

from __future__ import annotations

from typing import assert_never

from instar.fsm import events as e


def describe(event: e.AnyEvent) -> str:
    """Says in a few words what an event holds."""
    match event:
        case (
            e.WorkspaceInitialized()
            | e.ModelAdopted()
            | e.PolicyChanged()
            | e.SnapshotTaken()
            | e.InputSkipped()
            | e.TreeCaptured()
        ):
            return _workspace(event)
        case e.PayloadErased() | e.BlobsCollected():
            return _gone(event)
        case e.ChangeObserved() | e.FeedbackReceived() | e.TaskQueued():
            return _signal(event)
        case e.MutationRejected() | e.MutationAccepted() | e.MutationApplied() | e.ProbationEnded():
            return _mutation(event)
        case e.RollbackStarted() | e.RollbackFinished():
            return _rollback(event)
        case e.CycleStarted() | e.DiffComputed() | e.SignalEmbedded() | e.RetrainFlagged() | e.DatasetGenerated():
            return _gathering(event)
        case e.TrainingProgressed():
            return f"step {event.step} of {event.steps}, loss {event.loss:.4f}"
        case e.CheckpointTrained() | e.MemoryReembedded() | e.OutcomeRewarded() | e.PlanChosen() | e.EffectFailed():
            return _judging(event)
        case _:
            assert_never(event)


def _workspace(
    event: e.WorkspaceInitialized
    | e.ModelAdopted
    | e.PolicyChanged
    | e.SnapshotTaken
    | e.InputSkipped
    | e.TreeCaptured,
) -> str:
    match event:
        case e.WorkspaceInitialized():
            return f"tree {event.tree[:12]}, checkpoint {(event.checkpoint or 'none')[:12]}"
        case e.ModelAdopted():
            return f"checkpoint {event.checkpoint[:12]}, {event.model}"
        case e.PolicyChanged():
            return f"drift threshold {event.policy.drift.threshold}, rows needed {event.policy.retrain.rows_min}"
        case e.SnapshotTaken():
            return f"{event.name}: tree {event.tree[:12]}, checkpoint {(event.checkpoint or 'none')[:12]}"
        case e.InputSkipped():
            return f"{event.source} {event.subject}: {_line(event.reason)}"
        case e.TreeCaptured():
            return f"tree {event.tree[:12]}: empty folders, or what is left out"


def _gone(event: e.PayloadErased | e.BlobsCollected) -> str:
    match event:
        case e.PayloadErased():
            return f"payload of event {event.target}: {_line(event.reason)}"
        case e.BlobsCollected():
            return (
                f"{event.count} blobs, {event.bytes / 1e6:.1f} MB; kept from event {event.kept_from} on, and "
                f"{len(event.points)} older points"
            )


def _signal(event: e.ChangeObserved | e.FeedbackReceived | e.TaskQueued) -> str:
    match event:
        case e.ChangeObserved():
            mark = " (monitored)" if event.monitored else ""
            return f"{event.change} {event.path}{mark}{', seen before' if event.seen else ''}"
        case e.FeedbackReceived():
            sure = "" if event.confidence is None else f" at {event.confidence:.2f}"
            return f"{event.outcome}{sure} {event.task_type}: {_line(event.input)}"
        case e.TaskQueued():
            asked: str = event.task
            if event.repair:
                asked = f"repair {', '.join(event.repair.paths[:3]) or 'what is monitored'}"
            elif event.checkpoint:
                asked = f"judge {event.checkpoint[:12]}"
            return f"{asked} from {event.source} {_line(event.note)}".strip()


def _gathering(
    event: e.CycleStarted | e.DiffComputed | e.SignalEmbedded | e.RetrainFlagged | e.DatasetGenerated,
) -> str:
    match event:
        case e.CycleStarted():
            return f"{event.count} × {event.entry}, events {event.span.first}–{event.span.last}"
        case e.DiffComputed():
            changed = sum(item.meaning_changed for item in event.items)
            return f"{len(event.items)} differences, {changed} change meaning"
        case e.SignalEmbedded():
            low = [item.similarity for item in event.items if item.similarity is not None]
            nearest = f", lowest similarity {min(low):.3f}" if low else ""
            where = f"in space {event.space[:12]}" if event.space else "without a vector: no model"
            return f"{len(event.items)} rows {where}{nearest}"
        case e.RetrainFlagged():
            return "; ".join(f"{t.policy} {t.value:.2f} (threshold {t.threshold:.2f})" for t in event.triggers)
        case e.DatasetGenerated():
            out = sum(event.left_out.values())
            return f"{event.train} rows to learn, {event.heldout} held out, {out} left out"


def _judging(
    event: e.CheckpointTrained | e.MemoryReembedded | e.OutcomeRewarded | e.PlanChosen | e.EffectFailed,
) -> str:
    match event:
        case e.CheckpointTrained():
            gain, brought = event.gain, "" if event.brought is None else ", brought"
            return (
                f"{event.checkpoint[:12]}{brought}: MRR {event.before.mrr:.3f} → {event.after.mrr:.3f}, "
                f"{event.gain_of} {gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}], {event.duration_s:.0f} s"
            )
        case e.MemoryReembedded():
            return f"{len(event.rows)} rows in space {event.space[:12]}"
        case e.OutcomeRewarded():
            return f"{event.subject} {event.verdict}{_on_probation(event.probation)}: {_line(event.reason)}"
        case e.PlanChosen():
            return ", ".join(f"{step.task_type}: {step.strategy}" for step in event.steps[:4]) or "nothing to plan yet"
        case e.EffectFailed():
            return f"{event.effect}: {_line(event.reason)}"


def _mutation(event: e.MutationRejected | e.MutationAccepted | e.MutationApplied | e.ProbationEnded) -> str:
    match event:
        case e.MutationRejected():
            return _line(event.reason)
        case e.MutationAccepted():
            found = f", found by {event.mutator} after {event.tried} tries" if event.mutator else ""
            often = f" {event.runs} times" if event.runs > 1 else ""
            return (
                f"gate passed{often} ({event.sandbox}){found}; tree {event.tree_before[:12]} → {event.tree_after[:12]}"
            )
        case e.MutationApplied():
            return f"tree {event.tree[:12]}{_on_probation(event.probation)}"
        case e.ProbationEnded():
            return f"{event.subject} at event {event.applied} {event.verdict}: {_line(event.reason)}"


def _on_probation(outcomes: int | None) -> str:
    return f", on probation for {outcomes} outcomes" if outcomes else ""


def _rollback(event: e.RollbackStarted | e.RollbackFinished) -> str:
    match event:
        case e.RollbackStarted():
            undone = f"undo of event {event.undoes}, " if event.undoes else ""
            what = f" {', '.join(event.paths[:3] or event.parts)} alone" if event.parts != e.PARTS else ""
            places = f"tree {event.tree[:12]}, checkpoint {(event.checkpoint or 'none')[:12]}"
            return f"{undone}to event {event.target}{what}: {places}"
        case e.RollbackFinished():
            kept = f", {len(event.displaced)} displaced files kept" if event.displaced else ""
            return f"tree {event.tree[:12]}{kept}"


def _line(text: str) -> str:
    return " ".join(text.split())[:120]
