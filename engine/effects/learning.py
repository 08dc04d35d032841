"""Flagged → Generating → Training: asks for a retrain, builds the data set, trains the candidate."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from instar.engine.bench import Bench
from instar.engine.dataset.log_failures import LogFailure, read_failures
from instar.engine.dataset.mining import Embed
from instar.engine.dataset.rows import Row
from instar.engine.embedding.models import active_space
from instar.engine.environment import of_text
from instar.engine.extensions import BUILTIN
from instar.engine.feedback_loop import foreign_trigger, render_trigger, write_beside
from instar.engine.generate_dataset import Dataset, corpus, generate
from instar.engine.ports import Pair, TrainOutcome, TrainRequest
from instar.engine.runtime import Runtime
from instar.engine.training.cancelling import Cancelling
from instar.engine.training.everyday import general_texts
from instar.engine.training.probes import parse_probes, probe_file
from instar.engine.training.recipe import Recipe
from instar.fsm.decisions import lineage_of, progress_due, progress_key, seed_of, skipped_key
from instar.fsm.errors import BlobMissing, EffectFailedError, EffectSuspended
from instar.fsm.events import (
    GAIN_LEVEL,
    GAIN_OF,
    CheckpointTrained,
    DatasetGenerated,
    GainOf,
    InputSkipped,
    RetrainFlagged,
    TaskQueued,
    TrainingProgressed,
)
from instar.fsm.policy import GatePolicy, Policy
from instar.fsm.react import Effect, EffectName, react
from instar.fsm.state import AgentState, Cycle
from instar.fsm.words import Digest, Seq
from instar.store.checkpoints import import_checkpoint, import_products
from instar.store.durable import make_below
from instar.store.failpoints import failpoint
from instar.store.log import Pending
from instar.store.reader import LogReader

from .signals import current

logger = logging.getLogger("instar.engine")

LOSSES_MAX = 256


def flag(runtime: Runtime, state: AgentState, effect: Effect) -> list[Pending]:
    """Writes the retrain trigger file. Its time is the recorded one, so that a retry writes the same bytes."""
    triggers = current(state).triggers
    content = render_trigger(triggers, runtime.reader.get(effect.answers).recorded_at_us)
    foreign = foreign_trigger(runtime, own=content)
    if foreign:
        # Recorded before the file is replaced, so that another program's trigger is not lost.
        runtime.log.transact(lambda _: [foreign])
    write_beside(runtime.workspace.retrain_trigger, content, runtime.workspace.root)
    event = RetrainFlagged(
        triggers=triggers, path=runtime.settings.paths.retrain_trigger, content=runtime.blobs.put(content)
    )
    return [Pending(event, cause=effect.answers)]


def generate_dataset(runtime: Runtime, state: AgentState, effect: Effect) -> list[Pending]:
    """Builds the data set from everything that the log and the log files hold, and writes it where ``[paths]`` says."""
    failures, skipped = read_failures(runtime.workspace.logs, leave_out=(runtime.workspace.audit_log,))
    event = dataset_of(runtime, effect.answers, failures, state.policy, space=state.checkpoint)
    write_beside(runtime.workspace.dataset, runtime.blobs.get(event.dataset), runtime.workspace.root)
    return [*_skipped_once(runtime, skipped), Pending(event, cause=effect.answers)]


def dataset_of(
    bench: Bench,
    to: Seq,
    failures: Sequence[LogFailure],
    policy: Policy,
    *,
    space: Digest | None,
    recorded: Embed | None = None,
) -> DatasetGenerated:
    """Works the data set out from the events up to a position and from what the log files told.

    Args:
        bench: where the log, the blobs and the models are.
        to: the last event that it rests on.
        failures: what the log files told.
        policy: thresholds and shares.
        space: the active checkpoint, by whose vectors labels are suspected and wrong answers mined; None without one.
        recorded: the vectors that it gave before, in place of running it again.
    """
    kept: list[NDArray[np.float32]] = []

    def embed(texts: Sequence[str]) -> NDArray[np.float32]:
        assert space is not None
        embed_each = bench.models.embed_each
        kept.append(recorded(texts) if recorded else embed_each(space, texts, bench.progress, EffectName.GENERATE)[0])
        return kept[-1]

    past = bench.past.up_to(to, bench.reader, policy)
    dataset = generate(past, bench.reader.at, bench.blobs, failures, policy, embed if space else None)
    vectors = kept[0] if kept else None
    return DatasetGenerated(
        dataset=bench.blobs.put(dataset.to_jsonl()),
        train=len(dataset.train),
        heldout=len(dataset.heldout),
        sources=dataset.sources,
        left_out=dataset.left_out,
        logs=bench.blobs.put(msgspec.json.encode(failures, order="sorted")) if failures else None,
        environment=bench.models.environment(space) if space and vectors is not None and not recorded else of_text(),
        validation=len(dataset.validation),
        memory=len(dataset.memory),
        grouping=dataset.grouping,
        space=space if vectors is not None else None,
        vectors=bench.blobs.put(vectors.astype("<f4").tobytes()) if vectors is not None else None,
        dim=int(vectors.shape[1]) if vectors is not None else 0,
    )


def _skipped_once(runtime: Runtime, skipped: Iterable[InputSkipped]) -> list[Pending]:
    """Records what could not be read of the log files, each file and reason once."""
    keyed = {skipped_key(item): item for item in skipped}
    return [Pending(item, key=key) for key, item in keyed.items() if runtime.reader.by_key(key) is None]


def train(runtime: Runtime, state: AgentState, effect: Effect) -> list[Pending]:
    """Trains a candidate from the active checkpoint, or takes the one that the order brings, and measures it.

    The seed comes from the hash of the event that asks for it.
    What a worker that was killed left of the same training is taken up; what is left of others is removed.
    """
    scratch = runtime.workspace.scratch / f"train-{effect.answers}"
    forget_trainings(runtime, but=scratch)
    make_below(scratch, runtime.workspace.home)
    cancelling = Cancelling(runtime.workspace, effect.answers)

    def check(step: int, steps: int, loss: float) -> None:
        _record_progress(runtime, effect, TrainingProgressed(step=step, steps=steps, loss=round(loss, 6)))
        cancelling.check(step, steps)
        if runtime.ending() and step < steps:
            raise EffectSuspended(f"the training was put off after step {step} of {steps}: the worker is to end")

    base = active_space(state)
    recipe, brought = _order(runtime.reader, current(state))
    try:
        event = trained(
            runtime,
            effect.answers,
            base=base,
            recipe=runtime.models.recipe(recipe),
            name=runtime.settings.name,
            scratch=scratch,
            probes=read_probes(runtime),
            origin=origin_of(runtime, base),
            brought=brought,
            gate=state.policy.gate if "mix" not in recipe else None,
            check=check,
        )
    except EffectFailedError:
        shutil.rmtree(scratch, ignore_errors=True)
        cancelling.forget()
        raise
    cancelling.forget()
    return [Pending(event, cause=effect.answers)]


def _record_progress(runtime: Runtime, effect: Effect, event: TrainingProgressed) -> None:
    """Records that a training has come to a step, if that is due, not recorded before, and still owed."""
    if progress_due(event.step, event.steps):
        one = Pending(event, cause=effect.answers, key=progress_key(effect.answers, event.step))
        runtime.log.transact(lambda state: [one] if react(state) == effect else [])


def origin_of(runtime: Runtime, checkpoint: Digest) -> Digest:
    """Names the checkpoint that one descends from in the end, or where its blobs were collected the one itself."""
    records = runtime.reader.read(types=[CheckpointTrained])
    events = [record.event for record in records if isinstance(record.event, CheckpointTrained)]
    trained_here = (event for event in reversed(events) if event.brought is None)
    bases = {event.checkpoint: event.base for event in trained_here}  # what was made twice comes from the first
    origin = checkpoint
    while origin in bases:
        origin = bases.pop(origin)
    try:
        runtime.models.folder(origin)
    except BlobMissing:
        logger.warning("general texts are held where %s has them: checkpoint %s is gone", checkpoint[:12], origin[:12])
        return checkpoint
    return origin


def forget_trainings(runtime: Runtime, but: Path | None = None) -> None:
    """Removes what trainings left in the scratch folder once their outcome is recorded."""
    for left in runtime.workspace.scratch.glob("train-*"):
        if left != but:
            shutil.rmtree(left, ignore_errors=True)


class Brought(NamedTuple):
    """Weights that are judged in place of trained ones, and the order that names them."""

    task: Seq
    checkpoint: Digest


def _order(reader: LogReader, cycle: Cycle) -> tuple[Mapping[str, float | int | str], Brought | None]:
    """Gives the parts of a recipe that the order to train names, and the weights that it brings."""
    task = reader.get(cycle.span.first).event if cycle.entry == "self_train" else None
    if not isinstance(task, TaskQueued):
        return {}, None
    return task.recipe, Brought(cycle.span.first, task.checkpoint) if task.checkpoint else None


def read_probes(runtime: Runtime) -> Digest | None:
    """Takes the configured pairs that old abilities are measured on into the store.

    Raises:
        ConfigError: the file cannot be read, or is no file of such pairs.
    """
    content = probe_file(runtime.workspace.root, runtime.settings.training.probes)
    return runtime.blobs.put(content) if content is not None else None


def trained(
    bench: Bench,
    answers: Seq,
    *,
    base: Digest,
    recipe: Recipe,
    name: str,
    scratch: Path,
    probes: Digest | None = None,
    general: Digest | None = None,
    origin: Digest | None = None,
    gain_level: float = GAIN_LEVEL,
    gain_of: GainOf = GAIN_OF,
    brought: Brought | None = None,
    gate: GatePolicy | None = None,
    check: Callable[[int, int, float], object] = lambda _step, _steps, _loss: None,
) -> CheckpointTrained:
    """Trains a candidate on a recorded data set and takes it into the store; or measures one that was brought.

    Args:
        bench: where the log, the blobs and the models are.
        answers: the event that holds the data set and asks for the training; its hash gives the seed.
        base: the checkpoint to begin from.
        recipe: how to train.
        name: what the lineage calls the agent.
        scratch: a folder which may be filled; what an earlier try left there is taken up.
        probes: the blob of pairs that old abilities are measured on.
        general: the blob of texts that are to stay where they lie; ``general_texts`` by default.
        origin: the checkpoint under which they lie so; the base by default.
        gain_level: what share of chances the interval of the gain covers.
        gain_of: what the gain is measured by.
        brought: the candidate, if it was not to be trained.
        gate: what it will have to pass; without it all that the recipe says is stored of what was trained.
        check: called after each step with its number, how many there are and its loss; ends the training by raising.
    """
    asked = bench.reader.get(answers)
    assert isinstance(asked.event, DatasetGenerated)
    dataset = Dataset.parse(bench.blobs.get(asked.event.dataset))
    if brought or not recipe.general:
        origin = general = None
    elif general is None:
        general = bench.blobs.put(msgspec.json.encode(general_texts()))
    request = TrainRequest(
        base=bench.models.folder(base, verify=True),
        base_digest=base,
        rows=_pairs(dataset.train),
        heldout=_pairs(dataset.heldout),
        corpus=corpus(dataset),
        seed=seed_of(asked.hash),
        recipe=recipe,
        scratch=scratch,
        validation=_pairs(dataset.validation),
        memory=_pairs(dataset.memory),
        probes=parse_probes(bench.blobs.get(probes), "the recorded probes") if probes else {},
        general=msgspec.json.decode(bench.blobs.get(general), type=list[str]) if general else [],
        origin=bench.models.folder(origin, verify=True) if origin else None,
        origin_digest=origin,
        gain_level=gain_level,
        gain_of=gain_of,
        gate=gate,
    )

    def report(step: int, steps: int, loss: float) -> None:
        bench.progress.report(EffectName.TRAIN, step, steps, f"loss {loss:.4f}")
        failpoint("train.step")
        check(step, steps, loss)

    trainer = bench.models.trainer(recipe.trainer if not brought else BUILTIN)
    if brought:
        bench.progress.report(EffectName.TRAIN, note="measures what was brought")
        outcome = trainer.judge(request, bench.models.folder(brought.checkpoint, verify=True))
        checkpoint = brought.checkpoint
    else:
        outcome = trainer.train(request, report)
        if outcome.adapter:
            checkpoint = import_products(bench.blobs, outcome.folder, base, outcome.adapter)
        else:
            checkpoint = import_checkpoint(bench.blobs, outcome.folder)
    return CheckpointTrained(
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
        lineage=lineage_of(name, base, outcome.epochs, outcome.before, outcome.after),
        recipe=_trained_by(request.recipe, outcome, trainer.name).as_dict(),
        duration_s=round(outcome.duration_s, 3),
        environment=outcome.environment,
        abilities=outcome.abilities,
        temperature=outcome.temperature,
        base_temperature=outcome.base_temperature,
        validated=outcome.validated,
        probes=probes,
        general=general,
        gain_level=gain_level,
        gain_of=gain_of,
        origin=origin,
        brought=brought.task if brought else None,
    )


def _trained_by(recipe: Recipe, outcome: TrainOutcome, trainer: str) -> Recipe:
    return replace(recipe, trainer=trainer, mix=recipe.mix if outcome.mix is None else outcome.mix)


def _pairs(rows: Iterable[Row]) -> list[Pair]:
    return [Pair(row.input, row.output, tuple(row.negatives), tuple(row.confusable)) for row in rows]


def _thinned(losses: Sequence[float]) -> tuple[float, ...]:
    stride = -(-len(losses) // LOSSES_MAX) or 1
    return tuple(round(loss, 6) for loss in losses[::stride])
