"""What of a model learns: its upper layers' own weights, or low-rank products beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from instar.engine.training.recipe import Recipe
from instar.fsm.errors import EffectFailedError

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer


class Anatomy(NamedTuple):
    """Where a transformer's layers are: ``stack`` is what ``getattr(holder, name)`` gives."""

    inner: torch.nn.Module
    holder: torch.nn.Module
    name: str
    stack: torch.nn.ModuleList


def anatomy(model: SentenceTransformer) -> Anatomy:
    """Finds the layers of a model's first module.

    Raises:
        EffectFailedError: it is no transformer.
    """
    import torch
    from transformers import PreTrainedModel

    inner = next((part for part in model[0].modules() if isinstance(part, PreTrainedModel)), None)
    if inner is None:
        raise EffectFailedError("the base's first module is no transformer: only MiniLM-like models can be trained")
    stacks = [
        (holder, name, child)
        for holder in inner.modules()
        for name, child in holder.named_children()
        if isinstance(child, torch.nn.ModuleList)
    ]
    holder, name, stack = max(stacks, key=lambda found: len(found[2]), default=(inner, "", torch.nn.ModuleList()))
    return Anatomy(inner, holder, name, stack)


def unfreeze(model: SentenceTransformer, recipe: Recipe) -> dict[str, torch.nn.Parameter]:
    """Lets what the recipe names learn; gives its parameters by the transformer's own names.

    Raises:
        EffectFailedError: no layer lies above the frozen ones, or peft is needed and not installed.
    """
    inner, _, _, stack = anatomy(model)
    frozen = recipe.frozen_layers
    # The fused attention's way back takes ten times as long on short texts on a CPU as the plain products.
    getattr(inner, "set_attn_implementation", lambda _name: None)("eager")
    model.requires_grad_(False)
    if frozen >= len(stack):
        raise EffectFailedError(
            f"frozen_layers is {frozen}, and the base has {len(stack)} layers: none is left to train. "
            f"At most {len(stack) - 1} can be frozen."
        )
    if recipe.tuning == "lora":
        _add_low_rank(inner, stack, recipe)
    elif frozen < 0:
        inner.requires_grad_(True)
    else:
        stack[frozen:].requires_grad_(True)
    return {name: parameter for name, parameter in inner.named_parameters() if parameter.requires_grad}


def _add_low_rank(inner: torch.nn.Module, stack: torch.nn.ModuleList, recipe: Recipe) -> None:
    """Puts two small matrices beside each linear map of the layers that learn; the second begins with zeros."""
    import torch

    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise EffectFailedError(
            f"tuning 'lora' needs peft, which cannot be loaded ({error}): run `pip install 'instar[lora]'`"
        ) from error
    above = {id(part) for layer in stack[max(0, recipe.frozen_layers) :] for part in layer.modules()}
    targets = [name for name, part in inner.named_modules() if isinstance(part, torch.nn.Linear) and id(part) in above]
    library: Any = LoraConfig  # its fields are not annotated throughout
    config = library(r=recipe.lora_rank, lora_alpha=recipe.lora_alpha, target_modules=targets, lora_dropout=0.0)
    inject_adapter_in_model(config, inner)  # type: ignore[arg-type, unused-ignore]
