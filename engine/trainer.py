"""The trainer: fine-tunes the base on recorded failures and measures, on pairs that it did not learn, what it gained.

The loop is ours; model, tokenizer, optimizer, schedule, low-rank adapters and the group of processes are the libraries'
(docs/training.md weighs it against sentence-transformers' own trainer). The same base, rows, recipe, seed, device and
number of threads give the same bytes, and so does a training that was killed and went on.
"""

from __future__ import annotations

import logging
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from instar.fsm.errors import EffectFailedError
from instar.fsm.words import Digest, digest_of

from .allocator import freed_memory_kept
from .embedder import MiniLMEmbedder
from .embedding.sentence_model import load_sentence_model, multiplies_bfloat16, quiet
from .embedding.vector_cache import VectorCache
from .embedding.weights import BaseWeights
from .environment import of_device, of_model, threads_of
from .memory.calibration import TEMPERATURE
from .ports import Pair, Progress, TrainOutcome, TrainRequest
from .training.contrast import Course, plan
from .training.descent import Descent
from .training.easy import Easy
from .training.encoder import Encoder
from .training.launched import Asked, launch
from .training.layers import unfreeze
from .training.losses import Kept
from .training.measuring import Measure, Measured, Old
from .training.recipe import Recipe
from .training.retrieval import summarize
from .training.saved import Best, Position
from .training.shards import Shards
from .training.topics import nearest_answers
from .training.weights import Weights
from .training.writing import ADAPTER, Judged, beside, stored_weights, write, write_far_enough

if TYPE_CHECKING:
    import torch

    from instar.fsm.events import Environment

logger = logging.getLogger("instar.engine")

_UNNAMED = Digest("0" * 64)
_CONFUSABLE_MAX = 8
GENERAL_MAX = 1024
_TARGET, _STAGED = "model", "model.partial"


class Learnt(NamedTuple):
    """What a descent came to."""

    position: Position
    environment: Environment
    write: Callable[[float], object] = lambda _mix: None
    """Writes it, so far on the way from the base to what was learnt, in place of what was written before."""


class MiniLMTrainer:
    """Trains in this process, on the GPU if there is one, and measures on the CPU.

    Args:
        threads: for torch; 0 takes as many as torch would. Sums are rounded differently with another number.
        device: ``auto``, ``cpu`` or ``cuda``.
        keep_every_s: how often the state of a training is saved.
        shards: the group of processes of which this is one; alone by default.
        launcher: a command that starts such a group, such as ``accelerate launch --num_processes 2``.
    """

    name = "builtin"

    def __init__(
        self,
        threads: int = 0,
        *,
        device: str = "auto",
        keep_every_s: float = 15.0,
        shards: Shards | None = None,
        launcher: str = "",
    ) -> None:
        self.threads = threads
        self.device = device
        self.keep_every_s = keep_every_s
        self.shards = shards or Shards()
        self.launcher = launcher

    def train(self, request: TrainRequest, progress: Progress) -> TrainOutcome:
        """Trains, measures before and after, and leaves the folder ``scratch/model``.

        A training that was cut off, and whose state lies in ``scratch``, goes on from there. What ``progress`` raises
        ends the training at that step.

        Raises:
            EffectFailedError: there are no rows, the loss is no number, or the weights cannot be written back.
            ConfigError: the base cannot be loaded.
        """
        started = time.monotonic()
        if not request.rows:
            raise EffectFailedError("there is no row to learn from: the data set is empty")
        if self.launcher:
            return launch(self.launcher, Asked(request, self.threads, self.device, self.keep_every_s), progress)
        return self._train(request, progress, started)

    def _train(self, request: TrainRequest, progress: Progress, started: float) -> TrainOutcome:
        target = request.scratch / _TARGET
        staged = request.scratch / f"{_STAGED}.{self.shards.rank}"
        for leftover in (staged, target) if self.shards.first else (staged,):
            shutil.rmtree(leftover, ignore_errors=True)
        staged.mkdir(parents=True)
        measure = Measure(request)
        judged = self.shards.first and bool(request.heldout)  # without a sealed pair nothing can be promoted
        try:
            with settled(request.seed, self.threads), freed_memory_kept():
                before = _measured(request.base, measure) if judged else Measured.nothing()
                learnt = self._learn(request, measure, progress, staged)

                def judge() -> Measured:
                    return _measured(staged, measure, before) if judged else Measured.nothing()

                found = write_far_enough(request, before, learnt.write, judge)
            if self.shards.first:
                staged.rename(target)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
        return self._outcome(request, learnt, before, found, time.monotonic() - started)

    def judge(self, request: TrainRequest, weights: Path) -> TrainOutcome:
        """Measures weights from elsewhere beside the base; in this process, whatever the launcher is.

        Raises:
            ConfigError: a model cannot be loaded.
        """
        started = time.monotonic()
        measure = Measure(request)
        before = after = Measured.nothing()
        with settled(request.seed, self.threads):
            if request.heldout:
                before = _measured(request.base, measure)
                after = _measured(weights, measure, before)
            environment = of_model("bfloat16" if multiplies_bfloat16() else "float32")
        no_step = Learnt(Position([], [], Best()), environment)
        found = beside(request, before, after, request.recipe.mix)
        outcome = self._outcome(request, no_step, before, found, time.monotonic() - started)
        return replace(outcome, folder=weights, epochs=0, adapter=None)

    def _outcome(
        self, request: TrainRequest, learnt: Learnt, before: Measured, found: Judged, took_s: float
    ) -> TrainOutcome:
        position, adapter = learnt.position, request.scratch / ADAPTER
        seen = position.best.epoch if position.best.weights else 0
        return TrainOutcome(
            folder=request.scratch / _TARGET,
            losses=position.losses,
            before=summarize(before.heldout),
            after=summarize(found.after.heldout),
            gain=found.gain,
            epochs=seen or request.recipe.epochs,
            steps=len(position.losses),
            duration_s=round(took_s, 3),
            environment=learnt.environment,
            abilities=found.abilities,
            temperature=found.after.temperature,
            base_temperature=before.temperature,
            validated=tuple(position.validated),
            adapter=adapter if request.recipe.tuning == "lora" else None,
            mix=found.mix,
        )

    def _learn(self, request: TrainRequest, measure: Measure, progress: Progress, staged: Path) -> Learnt:
        """Trains what the recipe names; what is written of it is a copy of the base's folder."""
        recipe, device = request.recipe, device_of(self.device)
        small = _multiplies_small(recipe, device)
        precision = "bfloat16" if small else "float32"
        environment = of_model(precision) if device == "cpu" else of_device(device, precision)
        if self.shards.count > 1:
            environment = replace(environment, processor=f"{self.shards.count} processes, {environment.processor}")
        with quiet():
            model = load_sentence_model(request.base).to(device)
            stored = BaseWeights(request.base)
            trained = unfreeze(model, recipe)
            base = {} if recipe.tuning == "lora" else stored_weights(stored, trained, request.base)
            weights = Weights(trained, model, small=small)
            encoder = Encoder(model, frozen=recipe.frozen_layers, tokens_max=recipe.tokens_max)
            old = Old.of(request.memory)
            rows = _with_confusable(request, encoder) if recipe.confusable else list(request.rows)
            course = Course.of(rows, old.rehearsed)
            planned = plan(course, recipe, request.seed)
            texts = sorted({text for epoch in planned for batch in epoch for text in batch.texts})
            general = _general(request)
            validated = measure.texts() if recipe.patience else []
            encoder.prepare([*texts, *general, *validated])
            kept = _kept(encoder, texts, general, _under_origin(request, general, device), recipe)
            if recipe.loss == "nca" and recipe.easy < 1.0 and recipe.easy_epochs:
                kept = kept._replace(easy=Easy(kept.place, [row.input for row in rows], recipe, kept.vectors))
            if recipe.loss == "nca" and recipe.topic_aware:
                vectors = kept.vectors.cpu().numpy() if recipe.structure else encoder.embed(texts)
                near = nearest_answers(course.texts_of_answers(), {text: at for at, text in enumerate(texts)}, vectors)
                planned = plan(course, recipe, request.seed, near)
            _set_dropout(model, recipe.dropout)
            descent = Descent(
                encoder,
                weights,
                planned,
                kept,
                recipe,
                scratch=request.scratch,
                key=_key(request, environment),
                validate=(lambda: measure.validated(encoder.embed)) if validated else None,
                keep_every_s=self.keep_every_s,
                shards=self.shards,
            )
            model.train()
            position = descent.run(progress)
        if not self.shards.first:
            return Learnt(position, environment)
        learnt = zip(weights.names, weights.masters, strict=True)
        moved = {name: parameter for name, parameter in learnt if descent.moved(parameter)}
        return Learnt(position, environment, lambda mix: write(stored, base, moved, request, staged, mix))


def _measured(folder: Path, measure: Measure, base: Measured | None = None) -> Measured:
    """Measures the model as it lies in a folder, loaded as it would be for use; beside its base, once that is known."""
    embedder = MiniLMEmbedder(folder, _UNNAMED, cache=VectorCache())  # the same pairs are asked for several measures

    def embed(texts: Sequence[str]) -> NDArray[np.float32]:
        return embedder.embed_each(texts)[0] if texts else np.zeros((0, embedder.dim), np.float32)

    return measure.of(embed, (base.temperature if base else None) or TEMPERATURE)


def _with_confusable(request: TrainRequest, encoder: Encoder) -> list[Pair]:
    """Gives each row that names none the nearest inputs of other answers under the base."""
    pool = list(dict.fromkeys((pair.input, pair.output) for pair in (*request.rows, *request.memory)))
    if all(row.confusable for row in request.rows) or len(pool) < 2:
        return list(request.rows)
    right: dict[str, set[str]] = {}
    for asked, answer in pool:
        right.setdefault(asked, set()).add(answer)
    texts = list(right)
    vectors = encoder.embed(texts)
    place = {text: number for number, text in enumerate(texts)}
    found = []
    for row in request.rows:
        if row.confusable:
            found.append(row)
            continue
        order = np.argsort(-(vectors @ vectors[place[row.input]]), kind="stable")
        others = (texts[number] for number in order if right[texts[number]].isdisjoint(right[row.input]))
        found.append(replace(row, confusable=tuple(islice(others, _CONFUSABLE_MAX))))
    return found


def _general(request: TrainRequest) -> list[str]:
    """Chooses the general texts of a training, ``GENERAL_MAX`` at most."""
    if not request.recipe.general:
        return []
    texts = list(request.general)
    return random.Random(request.seed).sample(texts, min(GENERAL_MAX, len(texts)))


def _under_origin(request: TrainRequest, general: list[str], device: str) -> NDArray[np.float32] | None:
    """Says where the general texts lay under the origin, (texts, dim); None where that is the base, or without any."""
    if request.origin is None or request.origin_digest == request.base_digest or not general:
        return None
    model = load_sentence_model(request.origin).to(device)
    return Encoder(model, frozen=0, tokens_max=request.recipe.tokens_max).embed(general)


def _kept(
    encoder: Encoder, texts: list[str], general: list[str], lie: NDArray[np.float32] | None, recipe: Recipe
) -> Kept:
    """Notes where texts lie under the base, before anything is learnt; general ones where they are said to lie."""
    import torch

    vectors = encoder.embed(texts if recipe.structure else [])
    place = {text: number for number, text in enumerate(texts)}
    device = encoder.device
    lie = encoder.embed(general) if lie is None else lie
    return Kept(place, torch.from_numpy(vectors).to(device), general, torch.from_numpy(lie).to(device))


def _set_dropout(model: torch.nn.Module, share: float) -> None:
    import torch

    for part in model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = share


def device_of(asked: str) -> str:
    """Names the device to train on: what was asked for, or a GPU if there is one.

    Raises:
        EffectFailedError: there is no such device.
    """
    import torch

    if asked == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if asked == "cuda" and not torch.cuda.is_available():
        raise EffectFailedError("training.device is 'cuda', but torch sees no GPU here: set it to 'auto' or 'cpu'")
    return asked


def _multiplies_small(recipe: Recipe, device: str) -> bool:
    if recipe.precision == "auto":
        return device != "cpu" or multiplies_bfloat16()
    return recipe.precision == "bfloat16"


def _key(request: TrainRequest, environment: Environment) -> str:
    """Names a training by all that its bits depend on."""
    parts = [
        request.base_digest,
        request.origin_digest,
        request.rows,
        request.validation,
        request.memory,
        list(request.corpus),
        list(request.general),
        request.seed,
        request.recipe.as_dict(),
        environment,
    ]
    return digest_of(msgspec.json.encode(parts, order="sorted"))


@contextmanager
def settled(seed: int, threads: int) -> Iterator[None]:
    """Makes torch repeatable and puts its switches back as they were: they belong to the host."""
    import torch

    strict, warn = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    switches: Any = torch.utils.deterministic  # not declared by the library
    fills = switches.fill_uninitialized_memory
    # What cuBLAS asks for to be repeatable; it reads it when it is first used.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    with torch.random.fork_rng(devices=[]), threads_of(threads):
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(True)
        switches.fill_uninitialized_memory = False  # nothing here reads what it did not write
        try:
            yield
        finally:
            switches.fill_uninitialized_memory = fills
            torch.use_deterministic_algorithms(strict, warn_only=warn)
