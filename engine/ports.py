"""The port of the training: what it is given, what it gives, and who does it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from instar.fsm.events import GAIN_LEVEL, GAIN_OF, Ability, Environment, GainOf, Interval, Retrieval
from instar.fsm.policy import GatePolicy
from instar.fsm.words import Digest

from .training.recipe import Recipe


class Pair(Struct, frozen=True):
    """One row to learn from: what was asked, what is right, and answers that are known to be wrong for it.

    ``confusable`` are inputs of other answers that lie near to this one.
    """

    input: str
    output: str
    negatives: tuple[str, ...] = ()
    confusable: tuple[str, ...] = ()


class TrainRequest(Struct, frozen=True, kw_only=True):
    """Everything that a training run depends on.

    ``heldout`` judges the candidate; ``validation`` chooses among epochs, or judges as well where the recipe has no
    ``patience``; both fit temperatures: no row of theirs is learnt from. ``memory`` holds old pairs that are known to
    be right: they are rehearsed, and stand among the examples. ``probes`` are abilities that must be kept, by name;
    ``general`` are texts that are to stay where they lay under the model in ``origin``, by default the base.
    ``corpus`` holds the candidate answers among which an input must find its own. ``scratch`` is a folder that the run
    may fill; nothing outside it is written. ``gain_level`` is what share of chances the interval of the gain is to
    cover, ``gain_of`` what it is measured by. ``gate`` is what the candidate will have to pass: a trainer may store
    less of what it trained where that forgets too much. Without it the recipe's ``mix`` is what is stored.
    """

    base: Path
    base_digest: Digest
    rows: Sequence[Pair]
    heldout: Sequence[Pair]
    corpus: Sequence[str]
    seed: int
    recipe: Recipe
    scratch: Path
    validation: Sequence[Pair] = ()
    memory: Sequence[Pair] = ()
    probes: Mapping[str, Sequence[Pair]] = {}
    general: Sequence[str] = ()
    origin: Path | None = None
    origin_digest: Digest | None = None
    gain_level: float = GAIN_LEVEL
    gain_of: GainOf = GAIN_OF
    gate: GatePolicy | None = None


class TrainOutcome(Struct, frozen=True, kw_only=True):
    """A trained model folder, and what was measured; ``losses`` holds one value per step.

    ``adapter`` is a safetensors file with the low-rank products that were added to the base's weights, if that is how
    it was trained (see ``engine/training/adapter.py``). ``epochs`` counts those that the weights have seen.

    ``environment`` says where it was trained, if the trainer can tell; without it nobody can tell a training that
    cannot be reproduced from one that was never run. ``mix`` says how far what was stored lies on the way from the base
    to what was trained, if it is not as far as the recipe says.
    """

    folder: Path
    losses: list[float]
    before: Retrieval
    after: Retrieval
    gain: Interval
    epochs: int
    steps: int
    duration_s: float
    environment: Environment | None = None
    abilities: tuple[Ability, ...] = ()
    temperature: float | None = None
    base_temperature: float | None = None
    validated: tuple[float, ...] = ()
    adapter: Path | None = None
    mix: float | None = None


class Progress(Protocol):
    """Called after each step. What it raises ends the run at that step, and nothing trained is kept."""

    def __call__(self, step: int, steps: int, loss: float, /) -> object:
        """Takes the number of the step that is done (1 to ``steps``) and its loss."""


class WeightTrainer(Protocol):
    """Makes weights in the built-in trainer's place; an extension of the group ``instar.trainers``."""

    @property
    def name(self) -> str:
        """What the log calls this trainer."""

    def train(self, request: TrainRequest, progress: Progress) -> Path:
        """Trains on ``request.rows``, and returns the folder of the whole model, below ``request.scratch``.

        ``progress`` is called after each step; what it raises ends the training and is to be let through. The same
        request gives the same bytes. The sealed pairs are not in it.
        """


class Trainer(Protocol):
    """Makes a candidate checkpoint out of a base, and says what it is worth."""

    name: str
    """What the log calls it."""

    def train(self, request: TrainRequest, progress: Progress) -> TrainOutcome:
        """Trains, measures before and after, and leaves a model folder in the scratch folder.

        Raises:
            EffectFailedError: there is nothing to learn, or the weights cannot be trained.
        """

    def judge(self, request: TrainRequest, weights: Path) -> TrainOutcome:
        """Measures weights from elsewhere beside the base, as trained ones would be; no step is taken.

        Raises:
            ConfigError: a model cannot be loaded.
        """
