"""Flagged → Generating → Training: asks for a retrain, builds the data set, trains the candidate."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from instar.engine.bench import Bench
from instar.engine.environment import of_text
from instar.engine.feedback_loop import foreign_trigger, render_trigger, write_beside
from instar.engine.generate_dataset import Dataset, corpus, generate
from instar.engine.log_failures import LogFailure, read_failures
from instar.engine.models import active_space
from instar.engine.ports import Pair, TrainRequest
from instar.engine.recipe import Recipe
from instar.engine.runtime import Runtime
from instar.fsm.decisions import lineage_of, seed_of, skipped_key
from instar.fsm.events import CheckpointTrained, DatasetGenerated, InputSkipped, RetrainFlagged
from instar.fsm.policy import Policy
from instar.fsm.react import Effect, EffectName
from instar.fsm.state import AgentState
from instar.fsm.words import Digest, Seq
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
    event = dataset_of(runtime, effect.answers, failures, state.policy)
    write_beside(runtime.workspace.dataset, runtime.blobs.get(event.dataset))
    return [*_skipped_once(runtime, skipped), Pending(event, cause=effect.answers)]


def dataset_of(bench: Bench, to: Seq, failures: Sequence[LogFailure], policy: Policy) -> DatasetGenerated:
    """Works the data set out from the events up to a position and from what the log files told."""
    dataset = generate(bench.reader.read(1, to), bench.blobs, failures, policy)
    return DatasetGenerated(
        dataset=bench.blobs.put(dataset.to_jsonl()),
        train=len(dataset.train),
        heldout=len(dataset.heldout),
        sources=dataset.sources,
        left_out=dataset.left_out,
        logs=bench.blobs.put(msgspec.json.encode(failures, order="sorted")) if failures else None,
        environment=of_text(),
    )


def _skipped_once(runtime: Runtime, skipped: Iterable[InputSkipped]) -> list[Pending]:
    """Records what could not be read of the log files, each file and reason once."""
    keyed = {skipped_key(item): item for item in skipped}
    return [Pending(item, key=key) for key, item in keyed.items() if runtime.reader.by_key(key) is None]


def train(runtime: Runtime, state: AgentState, effect: Effect) -> list[Pending]:
    """Trains a candidate from the active checkpoint; its seed comes from the hash of the event that asks for it."""
    scratch = runtime.workspace.scratch / f"train-{effect.answers}"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    event = trained(
        runtime,
        effect.answers,
        base=active_space(state),
        recipe=runtime.models.recipe(),
        name=runtime.settings.name,
        scratch=scratch,
    )
    shutil.rmtree(scratch, ignore_errors=True)
    return [Pending(event, cause=effect.answers)]


def trained(bench: Bench, answers: Seq, *, base: Digest, recipe: Recipe, name: str, scratch: Path) -> CheckpointTrained:
    """Trains a candidate on a recorded data set and takes it into the store.

    Args:
        bench: where the log, the blobs and the models are.
        answers: the event that holds the data set and asks for the training; its hash gives the seed.
        base: the checkpoint to begin from.
        recipe: how to train.
        name: what the lineage calls the agent.
        scratch: an empty folder, which may be filled.
    """
    asked = bench.reader.get(answers)
    assert isinstance(asked.event, DatasetGenerated)
    dataset = Dataset.parse(bench.blobs.get(asked.event.dataset))
    request = TrainRequest(
        base=bench.models.folder(base),
        base_digest=base,
        rows=[Pair(row.input, row.output, tuple(row.negatives)) for row in dataset.train],
        heldout=[Pair(row.input, row.output, ()) for row in dataset.heldout],
        corpus=corpus(dataset),
        seed=seed_of(asked.hash),
        recipe=recipe,
        scratch=scratch,
    )
    outcome = bench.models.trainer().train(
        request, lambda step, steps, loss: bench.progress.report(EffectName.TRAIN, step, steps, f"loss {loss:.4f}")
    )
    return CheckpointTrained(
        checkpoint=import_checkpoint(bench.blobs, outcome.folder),
        base=base,
        dataset=asked.event.dataset,
        seed=request.seed,
        epochs=outcome.epochs,
        steps=outcome.steps,
        loss=_thinned(outcome.losses),
        before=outcome.before,
        after=outcome.after,
        gain=outcome.gain,
        lineage=lineage_of(name, base, outcome.epochs, outcome.before, outcome.after),
        recipe=request.recipe.as_dict(),
        duration_s=round(outcome.duration_s, 3),
        environment=outcome.environment,
    )


def _thinned(losses: Sequence[float]) -> tuple[float, ...]:
    stride = -(-len(losses) // LOSSES_MAX) or 1
    return tuple(round(loss, 6) for loss in losses[::stride])
