"""What LoRA learnt, put into the base's folder and beside it: the whole weights to use, the products to store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from instar.engine.embedding.weights import BaseWeights
from instar.engine.training.recipe import Recipe
from instar.fsm.errors import EffectFailedError
from instar.store.low_rank import with_product
from instar.store.low_rank_file import NARROW, SCALE, WIDE

if TYPE_CHECKING:
    import torch

_NARROW, _WIDE = ".lora_A.default.weight", ".lora_B.default.weight"


def write_products(
    stored: BaseWeights, trained: dict[str, torch.nn.Parameter], recipe: Recipe, staged: Path, adapter: Path
) -> None:
    """Writes the model folder with the products added, as far as the recipe mixes them, and the products themselves.

    Args:
        stored: the base's weights.
        trained: peft's parameters, by the transformer's own names.
        recipe: whose rank, alpha and mix count.
        staged: the model folder to be.
        adapter: the file of the products.

    Raises:
        EffectFailedError: the base stores what the products belong to in another type than float32.
    """
    import torch
    from safetensors.numpy import save_file

    scale = recipe.lora_alpha / recipe.lora_rank * recipe.mix
    merged: dict[str, torch.Tensor] = {}
    parts: dict[str, np.ndarray] = {}
    for name, parameter in trained.items():
        if not name.endswith(_NARROW):
            continue
        weight = name.removesuffix(_NARROW) + ".weight"
        base = stored.tensor(weight)
        if base.dtype != torch.float32:
            raise EffectFailedError(f"the base stores {weight} as {base.dtype}: LoRA adds to float32 alone")
        narrow = parameter.detach().cpu().numpy().astype("<f4")
        wide = trained[name.removesuffix(_NARROW) + _WIDE].detach().cpu().numpy().astype("<f4")
        merged[weight] = torch.from_numpy(with_product(base.numpy(), narrow, wide, scale))
        where = ":".join(stored.place_of(weight))
        parts |= {f"{where}:{NARROW}": narrow, f"{where}:{WIDE}": wide, f"{where}:{SCALE}": np.array([scale])}
    stored.copy_with(merged, staged)
    save_file(parts, adapter)
