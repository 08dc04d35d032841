"""What of a training is stored: all that was learnt, or less of it where all would forget too much.

Weights between those of a base and of what was fine-tuned from it keep more of the one's abilities than they lose of
the other's (WiSE-FT, Wortsman et al. 2022, "Robust fine-tuning of zero-shot models").
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from instar.engine.embedding.weights import BaseWeights
from instar.engine.ports import TrainRequest
from instar.fsm.errors import EffectFailedError
from instar.fsm.events import Ability, Interval
from instar.fsm.policies import forgotten

from .adapter import write_products
from .measuring import Measured, compared

if TYPE_CHECKING:
    import torch

ADAPTER = "adapter.safetensors"
_NEARER = (0.8, 0.6, 0.4)
"""How far a candidate that forgot too much lies on the way from its base to what was trained, tried in this order."""


class Judged(NamedTuple):
    """A candidate as it was written, and how it stands beside its base."""

    mix: float
    after: Measured
    gain: Interval
    abilities: tuple[Ability, ...]


def write_far_enough(
    request: TrainRequest, before: Measured, write: Callable[[float], object], measure: Callable[[], Measured]
) -> Judged:
    """Writes what was learnt, and goes back towards the base where the gate would refuse it for what it forgot alone.

    The first step back at which nothing is forgotten is taken; where there is none, all that was learnt.

    Args:
        request: the training.
        before: the base.
        write: writes a candidate, in place of the one before: how far it lies on the way from the base.
        measure: measures what was written last.
    """
    whole = request.recipe.mix
    write(whole)
    first = found = beside(request, before, measure(), whole)
    for nearer in _NEARER:
        if not _is_forgetful(request, found):
            return found
        mix = round(nearer * whole, 6)
        write(mix)
        found = beside(request, before, measure(), mix)
    if _is_forgetful(request, found):
        write(whole)
        return first
    return found


def beside(request: TrainRequest, before: Measured, after: Measured, mix: float) -> Judged:
    """Compares a candidate with its base."""
    return Judged(mix, after, *compared(before, after, request.seed, level=request.gain_level, of=request.gain_of))


def _is_forgetful(request: TrainRequest, found: Judged) -> bool:
    gate = request.gate
    return gate is not None and found.gain.low > gate.gain_min and forgotten(gate, found.abilities) is not None


def write(
    stored: BaseWeights,
    base: Mapping[str, torch.Tensor],
    trained: Mapping[str, torch.nn.Parameter],
    request: TrainRequest,
    staged: Path,
    mix: float,
) -> None:
    """Writes a candidate into an empty folder, in place of what was written there before.

    Args:
        stored: the base as it lies on disk.
        base: its tensors that learnt; of low-rank products none.
        trained: the parameters that learnt.
        request: the training.
        staged: the folder.
        mix: how far the candidate lies on the way from the base to the parameters.
    """
    import torch

    shutil.rmtree(staged)
    staged.mkdir()
    if request.recipe.tuning == "lora":
        write_products(stored, dict(trained), replace(request.recipe, mix=mix), staged, request.scratch / ADAPTER)
        return
    with torch.no_grad():
        mixed = {
            name: torch.lerp(base[name].to(parameter.dtype), parameter.cpu(), mix)
            for name, parameter in trained.items()
        }
    stored.copy_with(mixed, staged)


def stored_weights(
    stored: BaseWeights, trained: Mapping[str, torch.nn.Parameter], folder: Path
) -> dict[str, torch.Tensor]:
    """Reads the tensors that learn as the base stores them.

    Raises:
        EffectFailedError: they are not what the loaded model has, so what is learnt could not be stored.
    """
    base = {name: stored.tensor(name) for name in trained}
    for name, parameter in trained.items():
        here = parameter.detach().cpu()
        if base[name].shape != here.shape or not bool((base[name].to(here.dtype) == here).all()):
            raise EffectFailedError(
                f"parameter {name} is not what {folder} stores, so training it could not be stored either. "
                "Save the model anew with sentence-transformers and use that folder."
            )
    return base
