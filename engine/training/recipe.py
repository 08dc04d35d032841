"""The training recipe: every value that shapes a checkpoint beside the rows and the seed.

docs/training.md has the table of what was measured.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct


class Recipe(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to train; recorded whole with the checkpoint."""

    trainer: str = "builtin"
    """Who trains: ``builtin``, to which the other parts speak, or an extension (docs/extensions.md)."""
    loss: Literal["nca", "pairs"] = "nca"
    """``nca`` draws all texts of an answer together, its inputs and its own text, as the answers' vote weighs them
    (Goldberger et al. 2004); ``pairs`` an input to one document among all of the batch (Henderson et al. 2017)."""
    epochs: int = 12
    batch: int = 96
    rate: float = 5e-4
    """Peak learning rate of AdamW, reached after the share ``warmup`` of all steps, then falling to zero."""
    warmup: float = 0.1
    weight_decay: float = 0.0
    scale: float = 20.0
    """What cosines are multiplied by in the loss: 1 / temperature."""
    symmetric: float = 0.0
    """Of pairs: the weight of the loss the other way round, from each document to its inputs, beside 1."""
    positives: Literal["answer", "example", "mixed"] = "answer"
    """Of pairs: what a row is drawn to, its answer's text, another known input of the same answer (where there is none,
    the answer), or the two in turns by epoch."""
    negatives: int = 0
    """Of pairs: how many known wrong answers of a row stand in its batch; the row's others take turns by epoch."""
    confusable: int = 0
    """Of pairs: how many inputs of other answers that are near to the row's own stand in its batch: those that the data
    set names, else the nearest under the base."""
    topic_aware: float = 0.5
    """Of nca: the share of a batch that is filled with answers near each other under the base (Hofstätter et al. 2021);
    the rest is drawn by chance."""
    rehearsal: float = 3.0
    """How many old pairs at most are learnt again beside each new one, others in each epoch."""
    easy: float = 1.0
    """Of nca: the share of the vote for its own answer from which on an old text is not encoded at each step: it stands
    in the batch as it was encoded last (``easy.py``). With 1 every text is encoded each time."""
    easy_epochs: int = 3
    """Of nca: for how many epochs such a text may stand as it was; then it is encoded again."""
    structure: float = 1.0
    """The weight of the loss that keeps each text's cosines to where all texts lay under the base (relational
    distillation, Park et al. 2019; Hinton et al. 2015)."""
    general: float = 4.0
    """The weight of the loss that keeps general texts, some at each step, where they lay under the base."""
    tuning: Literal["full", "lora"] = "full"
    """Whether the layers' own weights are trained, or products of two small matrices that are added to them (Hu et al.
    2021): those alone are stored, the rest is the base's."""
    lora_rank: int = 8
    lora_alpha: float = 16.0
    frozen_layers: int = 0
    """How many of the lowest layers, and the token embeddings, keep the base's weights and so are stored once; with
    0 the embeddings alone do, with -1 nothing does."""
    freeze_out_at: float = 0.34
    """After which share of all steps the lowest layers have learnt enough and keep their weights to the end, so that
    they need not be computed any more (FreezeOut, Brock et al. 2017)."""
    freeze_out_layers: int = 0
    """How many layers, the frozen ones among them, those are; one at least goes on learning. With 0 all learn on."""
    dropout: float = 0.0
    """In the layers that learn."""
    tokens_max: int = 128
    """Where a text is cut in training; embedding uses the model's own window."""
    patience: int = 0
    """After how many epochs without a gain on the validation pairs the training stops; the best epoch's weights are
    kept. With 0 it never does."""
    mix: float = 1.0
    """How far the stored weights lie on the way from the base's (0) to the trained ones (1): WiSE-FT, Wortsman 2022.
    Nearer to the base where that far would forget too much (``writing.py``), unless an order names it."""
    clip: float = 1.0
    """Largest norm of a step's gradient."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the products; weights, their gradients and what is stored are float32 always. ``auto`` takes bfloat16 where
    the processor has it."""

    def as_dict(self) -> dict[str, float | int | str]:
        """Gives the recipe as it is recorded."""
        return msgspec.structs.asdict(self)

    @classmethod
    def from_dict(cls, parts: Mapping[str, Any], *, strict: bool = True) -> Recipe:
        """Makes a recipe from the parts that differ from the default.

        Args:
            parts: by name.
            strict: whether a number may be given as text, as on a command line.

        Raises:
            ValueError: a part has no such name, or a value that cannot be trained with.
        """
        recipe = msgspec.convert(dict(parts), cls, strict=strict)
        for name, low, high in _BOUNDS:
            value = getattr(recipe, name)
            if not low <= value <= high:  # also refuses what is no number
                raise ValueError(f"{name} is {value}; it must lie in {low:g} … {high:g}")
        if not recipe.trainer:
            raise ValueError("trainer is empty; builtin, or the name of an extension")
        least = 4 if recipe.loss == "nca" else 1 if recipe.negatives or recipe.confusable else 2
        if recipe.batch < least:
            against = "two texts of two answers" if recipe.loss == "nca" else "two pairs"
            raise ValueError(f"batch is {recipe.batch}, in which nothing stands against another: {against} are {least}")
        return recipe

    @classmethod
    def recorded(cls, parts: Mapping[str, Any]) -> Recipe:
        """Makes the recipe that a checkpoint was trained with; what was not known then takes no part.

        Raises:
            ValueError: a part has no such name, or a value that cannot be trained with.
        """
        return cls.from_dict({**_UNKNOWN_ONCE, **parts})

    @classmethod
    def unsaid(cls, parts: Mapping[str, Any]) -> list[str]:
        """Names, in order, the parts that a recorded recipe lacks though they took some part in the training."""
        return sorted(set(cls.__struct_fields__) - parts.keys() - _UNKNOWN_ONCE.keys())


def parse_recipe(text: str) -> dict[str, float | int | str]:
    """Reads parts of a recipe from a file (``*.toml``, ``*.json``) or from ``NAME=VALUE,NAME=VALUE``.

    Raises:
        ValueError: the file cannot be read, the text is neither, or names a part twice.
    """
    if text.endswith((".toml", ".json")):
        try:
            content = Path(text).read_bytes()
            if text.endswith(".toml"):
                return msgspec.toml.decode(content, type=dict[str, float | int | str])
            msgspec.json.decode(content)  # the standard library's decoder also takes NaN
            found = json.loads(content, object_pairs_hook=_each_once)
            return msgspec.convert(found, dict[str, float | int | str])
        except (OSError, UnicodeDecodeError, msgspec.MsgspecError) as error:
            raise ValueError(f"{text} cannot be read: {error}") from error
    parts: dict[str, float | int | str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = part.partition("=")
        if not equals:
            raise ValueError(f"{part!r} is no NAME=VALUE, and no file named *.toml or *.json")
        name = name.strip()
        if name in parts:
            raise ValueError(f"{name} is given twice")
        parts[name] = number_or_text(value.strip())
    return parts


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name} is given twice")
        found[name] = value
    return found


def number_or_text(text: str) -> float | int | str:
    """Reads a part's value as a command line or the environment has it."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


_UNKNOWN_ONCE = {"trainer": "builtin", "easy": 1.0, "easy_epochs": 3, "freeze_out_at": 0.34, "freeze_out_layers": 0}
"""Parts that recorded recipes may lack, as they are where they take no part; whatever the defaults may be one day."""

_BOUNDS = (
    ("epochs", 1, 1000),
    ("batch", 1, 4096),
    ("rate", 1e-9, 1.0),
    ("warmup", 0.0, 1.0),
    ("weight_decay", 0.0, 1.0),
    ("scale", 1e-3, 1000.0),
    ("symmetric", 0.0, 100.0),
    ("negatives", 0, 64),
    ("confusable", 0, 64),
    ("topic_aware", 0.0, 1.0),
    ("rehearsal", 0.0, 100.0),
    ("easy", 0.0, 1.0),
    ("easy_epochs", 0, 1000),
    ("structure", 0.0, 1000.0),
    ("general", 0.0, 1000.0),
    ("lora_rank", 1, 256),
    ("lora_alpha", 1e-3, 1000.0),
    ("frozen_layers", -1, 1000),
    ("freeze_out_at", 0.0, 1.0),
    ("freeze_out_layers", 0, 1000),
    ("dropout", 0.0, 0.9),
    ("tokens_max", 4, 8192),
    ("patience", 0, 1000),
    ("mix", 0.01, 1.0),
    ("clip", 1e-6, 1e6),
)
