"""Trainings, run again from the same base, rows, seed, recipe and threads, and compared bit for bit."""

from __future__ import annotations

import shutil

import numpy as np
from numpy.typing import NDArray

from instar.engine.effects.learning import Brought, trained
from instar.engine.embedding.models import active_space
from instar.engine.training.recipe import Recipe
from instar.fsm.errors import BlobCorrupt, BlobMissing, ConfigError
from instar.fsm.events import AnyEvent, CheckpointTrained, Span
from instar.fsm.record import Recorded
from instar.fsm.state import AgentState
from instar.store.checkpoints import TensorEntry, TensorFile, read_manifest, tensor_bytes
from instar.store.ports import Blobs

from .comparison import Explained, Mismatch
from .scratch import ScratchBench
from .subject import Subject

_MEASURED = (
    *("checkpoint", "loss", "before", "after", "gain", "lineage.confidence_gain"),
    *("abilities", "temperature", "base_temperature", "validated"),
)


class Trainings(Subject):
    """The checkpoint of a CheckpointTrained, and what was measured of it."""

    leave_out = frozenset({"environment", "duration_s", "recipe"})

    def again(self, bench: ScratchBench, record: Recorded, state: AgentState) -> AnyEvent:
        """Trains again."""
        event = record.event
        assert isinstance(event, CheckpointTrained)
        try:
            recipe = Recipe.recorded(event.recipe)
        except ValueError as error:
            raise ConfigError(f"the recorded recipe is not one that this Instar knows: {error}") from error
        base = active_space(state)
        scratch = bench.folder / f"train-{record.seq}"
        scratch.mkdir()
        try:
            name = event.lineage.source.removesuffix(f"_{base[:12]}")
            return trained(
                bench,
                state.since,
                base=base,
                recipe=recipe,
                name=name,
                scratch=scratch,
                probes=event.probes,
                general=event.general,
                origin=event.origin,
                gain_level=event.gain_level,
                gain_of=event.gain_of,
                brought=Brought(event.brought, event.checkpoint) if event.brought is not None else None,
            )
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def rests_on(self, _record: Recorded, state: AgentState) -> list[Span]:
        """Names the event that holds the data set."""
        return [Span(state.since, state.since)]

    def rounds(self, field: str) -> bool:
        """Says that weights, and all that is measured of them, can be rounded otherwise."""
        return field.startswith(_MEASURED)

    def excuse(self, recorded: AnyEvent, _again: AnyEvent) -> str | None:
        """Names the parts of the recipe that were not known when it was recorded."""
        assert isinstance(recorded, CheckpointTrained)
        new = Recipe.unsaid(recorded.recipe)
        return f"the recorded recipe does not say {', '.join(new)}" if new else None

    def explain(self, blobs: Blobs, recorded: AnyEvent, again: AnyEvent, _found: list[Mismatch]) -> Explained:
        """Counts the tensors that differ, and measures by how much."""
        assert isinstance(recorded, CheckpointTrained)
        assert isinstance(again, CheckpointTrained)
        if recorded.checkpoint == again.checkpoint:
            return Explained()
        try:
            before, after = _tensors(blobs, recorded), _tensors(blobs, again)
            differing = [name for name in before if name in after and before[name].blob != after[name].blob]
            largest = max((_distance(blobs, before[name], after[name]) for name in differing), default=0.0)
        except (BlobMissing, BlobCorrupt) as error:
            return Explained(f"the checkpoints cannot be compared: {error}")
        if before.keys() != after.keys():
            return Explained("the checkpoints are not made of the same tensors", far=True)
        return Explained(f"{len(differing)} of {len(before)} tensors differ, by at most {largest:.2g}")


def _tensors(blobs: Blobs, event: CheckpointTrained) -> dict[str, TensorEntry]:
    manifest = read_manifest(blobs, event.checkpoint)
    return {
        f"{file.path}:{tensor.name}": tensor
        for file in manifest.files
        if isinstance(file, TensorFile)
        for tensor in file.tensors
    }


def _distance(blobs: Blobs, one: TensorEntry, other: TensorEntry) -> float:
    """Gives the largest difference of two tensors of float32; of other types nothing is measured."""
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return float("inf")
    if one.dtype != "F32":
        return float("nan")
    before, after = (_numbers(blobs, tensor) for tensor in (one, other))
    return float(np.abs(before - after).max(initial=0.0))


def _numbers(blobs: Blobs, tensor: TensorEntry) -> NDArray[np.float32]:
    return np.frombuffer(tensor_bytes(blobs, tensor), dtype="<f4")
