"""The trainer: fine-tunes the base on recorded failures and measures, on held-out pairs, what it gained.

The loop is ours; model, tokenizer, optimizer, schedule and loss are the libraries'. sentence-transformers' own trainer
was weighed and left: it needs ``datasets`` and ``accelerate`` (pyarrow and pandas with them) for rows that already lie
in memory; its losses know no answer that is right for several inputs (its sampler only keeps such rows apart, which
cuts batches down to the number of distinct answers), and GISTEmbedLoss with the base as its guide masks what the base
ranks above the right answer, which is exactly what a recorded failure has to teach. And its ``save`` rewrites every
file, so that nothing would be shared with the base.

The same base, rows, recipe, seed and number of threads give the same bytes.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from instar.fsm.errors import EffectFailedError
from instar.fsm.words import Digest

from .contrast import Batch, batches, steps_of
from .embedder import MiniLMEmbedder, prepare
from .environment import of_model, threads_of
from .ports import Progress, TrainOutcome, TrainRequest
from .recipe import Recipe
from .retrieval import Scores, paired_gain, score, summarize
from .sentence_model import load_sentence_model, multiplies_bfloat16, quiet
from .weights import BaseWeights

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

logger = logging.getLogger("instar.engine")

_UNNAMED = Digest("0" * 64)


class MiniLMTrainer:
    """Trains on the CPU in this process.

    Args:
        threads: for torch; 0 takes as many as torch would. Sums are rounded differently with another number.
    """

    def __init__(self, threads: int = 0) -> None:
        self.threads = threads

    def train(self, request: TrainRequest, progress: Progress) -> TrainOutcome:
        """Trains, measures before and after, and leaves the folder ``scratch/model``.

        What ``progress`` raises ends the training at that step; nothing trained is then kept.

        Raises:
            EffectFailedError: there are no rows, the loss is no number, or the weights cannot be written back.
            ConfigError: the base cannot be loaded.
        """
        started = time.monotonic()
        if not request.rows:
            raise EffectFailedError("there is no row to learn from: the data set is empty")
        target = request.scratch / "model"
        staged = request.scratch / "model.partial"
        for leftover in (staged, target):
            shutil.rmtree(leftover, ignore_errors=True)
        staged.mkdir(parents=True)
        try:
            with _settled(request.seed, self.threads):
                environment = of_model("bfloat16" if _multiplies_small(request.recipe) else "float32")
                before = _measure(request.base, request)
                losses = _fine_tune(request, progress, staged)
                after = _measure(staged, request)
            staged.rename(target)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
        return TrainOutcome(
            folder=target,
            losses=losses,
            before=summarize(before),
            after=summarize(after),
            gain=paired_gain(before.reciprocal, after.reciprocal, request.seed),
            epochs=request.recipe.epochs,
            steps=len(losses),
            duration_s=round(time.monotonic() - started, 3),
            environment=environment,
        )


def _measure(folder: Path, request: TrainRequest) -> Scores:
    """Scores the model as it lies in a folder, loaded as it would be for use, on the held-out pairs."""
    if not request.heldout:
        return Scores(np.zeros(0, np.int64), np.zeros(0))
    corpus = list(dict.fromkeys([*request.corpus, *(pair.output for pair in request.heldout)]))
    embedder = MiniLMEmbedder(folder, _UNNAMED)
    vectors, _ = embedder.embed_each(corpus)
    questions, _ = embedder.embed_each([pair.input for pair in request.heldout])
    return score(questions, [pair.output for pair in request.heldout], corpus, vectors)


def _fine_tune(request: TrainRequest, progress: Progress, staged: Path) -> list[float]:
    """Trains the upper layers and writes them, mixed with the base's, into a copy of the base's folder."""
    recipe = request.recipe
    model = load_sentence_model(request.base)
    stored = BaseWeights(request.base)
    trained = _unfreeze(model, recipe.frozen_layers)
    base = {name: stored.tensor(name) for name in trained}
    for name, parameter in trained.items():
        if base[name].shape != parameter.shape or not bool((base[name].to(parameter.dtype) == parameter).all()):
            raise EffectFailedError(
                f"parameter {name} is not what {request.base} stores, so training it could not be stored either. "
                "Save the model anew with sentence-transformers and use that folder."
            )
    losses = _descend(model, list(trained.values()), request, progress)
    import torch

    with torch.no_grad():
        mixed = {
            name: torch.lerp(base[name].to(parameter.dtype), parameter, recipe.mix)
            for name, parameter in trained.items()
            if parameter.grad is not None  # a pooler that takes no part keeps its bytes
        }
    stored.copy_with(mixed, staged)
    return losses


def _descend(
    model: SentenceTransformer, parameters: list[torch.nn.Parameter], request: TrainRequest, progress: Progress
) -> list[float]:
    import torch
    import transformers

    recipe = request.recipe
    steps = steps_of(len(request.rows), recipe)
    optimizer = torch.optim.AdamW(parameters, lr=recipe.rate, weight_decay=0.0)
    library: Any = transformers  # not annotated throughout
    schedule = library.get_linear_schedule_with_warmup(optimizer, round(recipe.warmup * steps), steps)
    model.max_seq_length = min(recipe.tokens_max, model.max_seq_length or recipe.tokens_max)
    model.train()
    for part in model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = recipe.dropout
    losses: list[float] = []
    with quiet():
        for step, batch in enumerate(batches(request.rows, recipe, request.seed), start=1):
            loss = _loss(model, batch, recipe)
            value = float(loss.detach())
            if value != value:
                raise EffectFailedError(f"the loss is no number at step {step}: train with a lower rate")
            optimizer.zero_grad(set_to_none=False)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(parameters, recipe.clip)
            optimizer.step()
            schedule.step()
            losses.append(value)
            progress(step, steps, value)
    return losses


def _loss(model: SentenceTransformer, batch: Batch, recipe: Recipe) -> torch.Tensor:
    """Cross entropy of each input's answer against the batch's documents (multiple negatives ranking)."""
    import torch

    with torch.autocast("cpu", torch.bfloat16, enabled=_multiplies_small(recipe)):
        inputs = _embed(model, batch.inputs)  # (inputs, dim)
        documents = _embed(model, batch.documents)  # (documents, dim)
    logits = inputs.float() @ documents.float().T * recipe.scale  # (inputs, documents)
    if batch.masked:
        rows, columns = zip(*batch.masked, strict=True)
        mask = torch.zeros_like(logits, dtype=torch.bool)
        mask[list(rows), list(columns)] = True
        logits = logits.masked_fill(mask, float("-inf"))
    return torch.nn.functional.cross_entropy(logits, torch.tensor(batch.positives))


def _multiplies_small(recipe: Recipe) -> bool:
    return recipe.precision == "bfloat16" or (recipe.precision == "auto" and multiplies_bfloat16())


def _embed(model: SentenceTransformer, texts: list[str]) -> torch.Tensor:
    import torch

    # Before 5.4 the method has another name.
    preprocess = getattr(model, "preprocess", None) or model.tokenize
    features: dict[str, Any] = preprocess([prepare(text) for text in texts])
    return torch.nn.functional.normalize(model(features)["sentence_embedding"], dim=1)


def _unfreeze(model: SentenceTransformer, frozen_layers: int) -> dict[str, torch.nn.Parameter]:
    """Lets the layers above the frozen ones learn; gives their parameters by the transformer's own names.

    Raises:
        EffectFailedError: the model has no layers above the frozen ones, or none that can be told apart.
    """
    import torch
    from transformers import PreTrainedModel

    model.requires_grad_(False)
    inner = next((part for part in model[0].modules() if isinstance(part, PreTrainedModel)), None)
    if inner is None:
        raise EffectFailedError("the base's first module is no transformer: only MiniLM-like models can be trained")
    stacks = [part for part in inner.modules() if isinstance(part, torch.nn.ModuleList)]
    layers = max(stacks, key=len, default=torch.nn.ModuleList())
    if frozen_layers < 0:
        inner.requires_grad_(True)
    elif frozen_layers < len(layers):
        layers[frozen_layers:].requires_grad_(True)
    else:
        raise EffectFailedError(
            f"the base has {len(layers)} layers: fewer than {frozen_layers + 1} leave none to train"
        )
    return {name: parameter for name, parameter in inner.named_parameters() if parameter.requires_grad}


@contextmanager
def _settled(seed: int, threads: int) -> Iterator[None]:
    """Makes torch repeatable and puts its switches back as they were: they belong to the host."""
    import torch

    strict, warn = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    with torch.random.fork_rng(devices=[]), threads_of(threads):
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(strict, warn_only=warn)
