"""A trainer of another package: it makes the weights, and what they are worth is measured here."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from instar.engine.embedding.soundness import refuse_unsound
from instar.engine.extension_calls import asked
from instar.engine.extensions import TRAINERS, as_library
from instar.engine.ports import Progress, Trainer, TrainOutcome, TrainRequest, WeightTrainer
from instar.fsm.errors import ConfigError, EffectFailedError, ExtensionFailed

LONG_S: Final = 3600.0
"""A training that takes so many seconds is told of, once."""


class ForeignTrainer:
    """Has weights made by an extension, and measures them as the trainer that is built in measures its own.

    Args:
        extension: makes the weights.
        measuring: measures them.
    """

    def __init__(self, extension: WeightTrainer, measuring: Trainer) -> None:
        self._extension = extension
        self._measuring = measuring
        self.name = extension.name

    def train(self, request: TrainRequest, progress: Progress) -> TrainOutcome:
        """Trains, and measures beside the base. Of the sealed pairs and the probes the extension learns nothing.

        Raises:
            EffectFailedError: there are no rows, or the extension failed, or left no sound model.
        """
        if not request.rows:
            raise EffectFailedError("there is no row to learn from: the data set is empty")
        started = time.monotonic()
        losses: list[float] = []
        who = f"the trainer {self.name}"

        def told(step: int, steps: int, loss: float, /) -> None:
            if not (type(step) is type(steps) is int and 1 <= step <= steps and math.isfinite(loss)):
                raise ValueError(f"progress was told step {step!r} of {steps!r} and the loss {loss!r}")
            losses.append(float(loss))
            progress(step, steps, losses[-1])

        shown = replace(request, heldout=(), probes={})
        folder = self._folder(who, asked(who, lambda: self._extension.train(shown, told), long_s=LONG_S), request)
        outcome = self._measuring.judge(request, folder)
        environment = outcome.environment
        if environment is not None:
            environment = replace(environment, libraries=environment.libraries | as_library(TRAINERS, self.name))
        return replace(
            outcome,
            environment=environment,
            losses=losses,
            steps=len(losses),
            epochs=request.recipe.epochs,
            duration_s=round(time.monotonic() - started, 3),
        )

    def judge(self, request: TrainRequest, weights: Path) -> TrainOutcome:
        """Measures weights from elsewhere, as the trainer that is built in does."""
        return self._measuring.judge(request, weights)

    def _folder(self, who: str, given: object, request: TrainRequest) -> Path:
        """Gives the folder that was left, if a sound model lies in it.

        Raises:
            ExtensionFailed: it is none.
        """
        folder = Path(given) if isinstance(given, str | Path) else None
        if folder is None or not folder.is_dir() or not folder.resolve().is_relative_to(request.scratch.resolve()):
            raise ExtensionFailed(
                f"{who} gave {given!r:.200}: have it return the folder of the trained model, below request.scratch"
            )
        try:
            refuse_unsound(folder)
        except ConfigError as error:
            raise ExtensionFailed(f"{who} left no sound model: {error}") from error
        return folder
