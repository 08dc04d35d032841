"""Flagged → Generating → Training: asks for a retrain, builds the data set, trains the candidate."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence

import msgspec

from instar.engine.feedback_loop import foreign_trigger, render_trigger, write_beside
from instar.engine.generate_dataset import Dataset, corpus, generate
from instar.engine.log_failures import read_failures
from instar.engine.models import active_space
from instar.engine.ports import Pair, TrainRequest
from instar.engine.runtime import Runtime
from instar.fsm.events import CheckpointTrained, DatasetGenerated, InputSkipped, Lineage, RetrainFlagged
from instar.fsm.react import Effect
from instar.fsm.state import AgentState
from instar.fsm.words import digest_of
from instar.store.checkpoints import import_checkpoint
from instar.store.log import Pending

from .signals import current

LOSSES_MAX = 256


def flag(runtime: Runtime, state: AgentState, effect: Effect) -> list[Pending]:
    """Writes the retrain trigger file. Its time is the recorded one, so that a retry writes the same bytes."""
    triggers = current(state).triggers
    content = render_trigger(triggers, runtime.reader.get(effect.answers).recorded_at_us)
    foreign = foreign_trigger(runtime, own=content)
    if foreign:
        # Recorded before the file is replaced, so that another program's trigger is not lost.
        runtime.log.transact(lambda _: [foreign])
    write_beside(runtime.workspace.retrain_trigger, content)
    event = RetrainFlagged(
        triggers=triggers, path=runtime.settings.paths.retrain_trigger, content=runtime.blobs.put(content)
    )
    return [Pending(event, cause=effect.answers)]


def generate_dataset(runtime: Runtime, state: AgentState, effect: Effect) -> list[Pending]:
    """Builds the data set from everything that the log and the log files hold, and writes it where SEED says."""
    failures, skipped = read_failures(runtime.workspace.logs, leave_out=(runtime.workspace.audit_log,))
    dataset = generate(runtime.reader.read(1, effect.answers), runtime.blobs, failures, state.policy)
    content = dataset.to_jsonl()
    write_beside(runtime.workspace.dataset, content)
    event = DatasetGenerated(
        dataset=runtime.blobs.put(content),
        train=len(dataset.train),
        heldout=len(dataset.heldout),
        sources=dataset.sources,
        left_out=dataset.left_out,
        logs=runtime.blobs.put(msgspec.json.encode(failures, order="sorted")) if failures else None,
    )
    return [*_skipped_once(runtime, skipped), Pending(event, cause=effect.answers)]


def _skipped_once(runtime: Runtime, skipped: Iterable[InputSkipped]) -> list[Pending]:
    """Records what could not be read of the log files, each file and reason once."""
    keyed = {f"skipped:{digest_of(f'{item.subject}:{item.reason}'.encode())[:32]}": item for item in skipped}
    return [Pending(item, key=key) for key, item in keyed.items() if runtime.reader.by_key(key) is None]


def train(runtime: Runtime, state: AgentState, effect: Effect) -> list[Pending]:
    """Trains a candidate from the active checkpoint; its seed comes from the hash of the event that asks for it."""
    asked = runtime.reader.get(effect.answers)
    assert isinstance(asked.event, DatasetGenerated)
    dataset = Dataset.parse(runtime.blobs.get(asked.event.dataset))
    base = active_space(state)
    scratch = runtime.workspace.scratch / f"train-{effect.answers}"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    request = TrainRequest(
        base=runtime.models.folder(base),
        base_digest=base,
        rows=[Pair(row.input, row.output, tuple(row.negatives)) for row in dataset.train],
        heldout=[Pair(row.input, row.output, ()) for row in dataset.heldout],
        corpus=corpus(dataset),
        seed=int(asked.hash[:8], 16) & 0x7FFFFFFF,
        recipe=runtime.models.recipe(),
        scratch=scratch,
    )
    outcome = runtime.models.trainer().train(
        request, lambda step, steps, loss: runtime.progress.report(effect.name, step, steps, f"loss {loss:.4f}")
    )
    checkpoint = import_checkpoint(runtime.blobs, outcome.folder)
    shutil.rmtree(scratch, ignore_errors=True)
    event = CheckpointTrained(
        checkpoint=checkpoint,
        base=base,
        dataset=asked.event.dataset,
        seed=request.seed,
        epochs=outcome.epochs,
        steps=outcome.steps,
        loss=_thinned(outcome.losses),
        before=outcome.before,
        after=outcome.after,
        gain=outcome.gain,
        lineage=Lineage(
            source=f"{runtime.settings.name}_{base[:12]}",
            epoch=outcome.epochs,
            confidence_gain=round(outcome.after.confidence - outcome.before.confidence, 6),
        ),
        recipe=request.recipe.as_dict(),
        duration_s=round(outcome.duration_s, 3),
    )
    return [Pending(event, cause=effect.answers)]


def _thinned(losses: Sequence[float]) -> tuple[float, ...]:
    stride = -(-len(losses) // LOSSES_MAX) or 1
    return tuple(round(loss, 6) for loss in losses[::stride])
