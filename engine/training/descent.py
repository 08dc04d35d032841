"""The descent: batch by batch the layers that learn are moved down the gradient of the losses that a recipe names."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from instar.engine.ports import Progress
from instar.engine.training.contrast import Plan
from instar.engine.training.recipe import Recipe
from instar.fsm.errors import EffectFailedError, EffectSuspended

from .losses import Kept, Moment, loss_of
from .saved import Best, Position, SavedState
from .shards import Shards
from .weights import Weights

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from .encoder import Encoder


class Descent:
    """One training of the parameters of an encoder.

    Args:
        encoder: encodes texts with the parameters.
        weights: what learns.
        plan: the batches of each epoch.
        kept: what is to stay where it lay.
        recipe: how.
        validate: measures the parameters as they are now; None where there is nothing to measure on.
        scratch: where the state is saved.
        key: names the training.
        keep_every_s: how often the state is saved, in seconds.
        shards: which part of each batch this process encodes.
    """

    def __init__(
        self,
        encoder: Encoder,
        weights: Weights,
        plan: Plan,
        kept: Kept,
        recipe: Recipe,
        *,
        scratch: Path,
        key: str,
        validate: Callable[[], float] | None = None,
        keep_every_s: float = 15.0,
        shards: Shards | None = None,
    ) -> None:
        import torch
        import transformers

        self._encoder, self._weights, self._parameters = encoder, weights, weights.masters
        self._kept, self._recipe = kept, recipe
        self._validate, self._keep_every_s = validate, keep_every_s
        self._shards = shards or Shards()
        self._batches = [batch for epoch in plan for batch in epoch]
        self._epochs = [number for number in range(len(plan)) for _ in plan[number]]
        self._ends = {sum(map(len, plan[: number + 1])): number + 1 for number in range(len(plan))}
        self._optimizer = torch.optim.AdamW(
            self._parameters, lr=recipe.rate, weight_decay=recipe.weight_decay, fused=True
        )
        library: Any = transformers  # not annotated throughout
        steps = len(self._batches)
        self._freezes_at = round(recipe.freeze_out_at * steps) if recipe.freeze_out_layers else steps
        self._schedule = library.get_linear_schedule_with_warmup(self._optimizer, round(recipe.warmup * steps), steps)
        self._memory = kept.easy.tensors if kept.easy else {}
        self._saved = SavedState(scratch, key, self._parameters, self._optimizer, self._schedule, self._memory)

    def run(self, progress: Progress) -> Position:
        """Descends, from the saved state on if there is one; the parameters then hold the weights to keep.

        Raises:
            EffectFailedError: the loss is no number.
        """
        position = self._saved.read() if self._shards.first else Position([], [], Best())
        position = self._shards.same(position, self._parameters, self._optimizer, self._schedule, self._memory)
        self._weights.give()
        if self._validate and not position.validated:
            position.validated.append(self._validate())
        saved_at = time.monotonic()
        frozen = False
        while not self._is_over(position):
            if not frozen and position.step >= self._freezes_at:
                self._encoder.freeze_out(self._recipe.freeze_out_layers)
                frozen = True
            position.losses.append(self._step(position.step))
            if position.step in self._ends:
                self._end_epoch(position, self._ends[position.step])
            self._report(position, progress)  # before the state is saved: what goes on from there tells it no more
            if time.monotonic() - saved_at >= self._keep_every_s and self._shards.first:
                self._saved.write(position)
                saved_at = time.monotonic()
        self._take_best(position)
        return position

    def _report(self, position: Position, progress: Progress) -> None:
        try:
            progress(position.step, len(self._batches), position.losses[-1])
        except EffectSuspended:
            if self._shards.first:
                self._saved.write(position)
            raise

    def moved(self, parameter: torch.nn.Parameter) -> bool:
        """Says whether a parameter took part: a pooler that no loss goes through keeps its bytes."""
        return parameter in self._optimizer.state

    def _step(self, done: int) -> float:
        import torch

        at = Moment(done, self._epochs[done])
        loss = loss_of(self._batches[done], at, self._kept, self._recipe, self._encode)
        value = float(loss.detach())
        if value != value:
            raise EffectFailedError(f"the loss is no number at step {done + 1}: train with a lower rate")
        self._weights.forget_gradients()
        loss.backward()  # type: ignore[no-untyped-call]
        self._weights.take_gradients()
        self._shards.add_up(self._parameters)
        torch.nn.utils.clip_grad_norm_(self._parameters, self._recipe.clip)
        self._optimizer.step()
        self._weights.give()
        self._schedule.step()
        return value

    def _encode(self, texts: Sequence[str]) -> torch.Tensor:
        return self._shards.encode(self._encoder, texts)

    def _end_epoch(self, position: Position, epoch: int) -> None:
        """Measures what an epoch came to, and remembers the weights of the best one if the training may stop early."""
        if self._validate is None:
            return
        reached = self._validate()
        position.validated.append(reached)
        if self._recipe.patience and reached > position.best.reached:
            weights = [parameter.detach().clone().cpu() for parameter in self._parameters]
            position.best = Best(epoch, reached, weights)

    def _is_over(self, position: Position) -> bool:
        patience, epoch = self._recipe.patience, len(position.validated) - 1
        waited = bool(patience) and position.best.epoch > 0 and epoch - position.best.epoch >= patience
        return waited or position.step >= len(self._batches)

    def _take_best(self, position: Position) -> None:
        import torch

        if position.best.weights:
            with torch.no_grad():
                for parameter, weight in zip(self._parameters, position.best.weights, strict=True):
                    parameter.copy_(weight)
            self._weights.give()
