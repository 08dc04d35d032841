"""The losses: what belongs together is drawn together, what is known stays where it was."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from instar.engine.training.contrast import Batch, Group
from instar.engine.training.easy import Easy
from instar.engine.training.recipe import Recipe

if TYPE_CHECKING:
    import torch

Encode = Callable[[Sequence[str]], "torch.Tensor"]
"""Texts to unit vectors that can be learnt from, (texts, dim)."""

GENERAL = 16
"""General texts at each step."""
_STRUCTURE = 100.0
"""Brings the mean square of a difference of cosines to about the size of the other losses."""


class Kept(NamedTuple):
    """Where texts lay under the base, on the device of the training.

    ``place`` gives the row in ``vectors``, (texts, dim), of each text that is learnt; ``general`` texts and their
    vectors belong together by number. ``easy`` texts are not encoded at each step; with None all are.
    """

    place: dict[str, int]
    vectors: torch.Tensor
    general: list[str]
    general_vectors: torch.Tensor
    easy: Easy | None = None


class Moment(NamedTuple):
    """When a step is: how many were before it (general texts take turns), and in which epoch, from 0."""

    step: int
    epoch: int = 0


class Shares(NamedTuple):
    """By number the texts that were judged, and the share of each one's own answer in the vote, (texts,)."""

    anchors: list[int]
    own: torch.Tensor


def loss_of(batch: Batch | Group, at: Moment, kept: Kept, recipe: Recipe, encode: Encode) -> torch.Tensor:
    """Gives the whole loss of a batch.

    Args:
        batch: what is learnt.
        at: when.
        kept: where texts lay under the base, and which of them are easy.
        recipe: the weights of the losses.
        encode: gives the vectors as they are now.
    """
    general = _turn(kept.general, at.step) if recipe.general else []
    texts, easy = batch.texts, kept.easy if isinstance(batch, Group) else None
    fresh, left = easy.parted(texts, at.epoch) if easy else (list(range(len(texts))), [])
    vectors = encode([*(texts[number] for number in fresh), *(kept.general[number] for number in general)])
    encoded = vectors[: len(fresh)]
    learnt = _beside(encoded, fresh, left, easy.vectors([texts[number] for number in left])) if easy else encoded
    if isinstance(batch, Group):
        loss, shares = neighbours(learnt, batch, recipe)
        if easy:
            easy.encoded([texts[number] for number in fresh], encoded, at.epoch)
            easy.judged([texts[number] for number in shares.anchors], shares.own)
    else:
        loss = pairs(learnt, batch, recipe)
    if recipe.structure and fresh:
        was = kept.vectors[[kept.place[texts[number]] for number in fresh]]
        moved = (encoded - was) @ kept.vectors.T  # (fresh, all texts): how much each cosine to the base's space changed
        loss = loss + recipe.structure * _STRUCTURE * (moved**2).mean() * (len(fresh) / len(texts))
    if general:
        now, was = vectors[len(fresh) :], kept.general_vectors[general]
        loss = loss + recipe.general * (1.0 - (now * was).sum(dim=1)).mean()
    return loss


def _beside(encoded: torch.Tensor, fresh: list[int], left: list[int], known: torch.Tensor) -> torch.Tensor:
    """Puts what was encoded and what is known of the others back into the order of the batch."""
    import torch

    if not left:
        return encoded
    together = torch.cat([encoded, known.to(encoded.dtype)])
    order = torch.tensor([*fresh, *left]).argsort()
    return together[order.to(encoded.device)]


def neighbours(vectors: torch.Tensor, group: Group, recipe: Recipe) -> tuple[torch.Tensor, Shares]:
    """Gives the negative log of the share that each text's own answer has in the vote of the others; and the shares.

    Neighbourhood components analysis (Goldberger et al. 2004), within a batch. A text that is alone counts only for the
    others.
    """
    import torch

    count = len(group.texts)
    same = torch.zeros((count, count), dtype=torch.bool)
    for row, columns in enumerate(group.together):
        same[row, columns] = True
    numbers = same.any(dim=1).nonzero()[:, 0]
    if not len(numbers):
        return vectors.sum() * 0.0, Shares([], torch.zeros(0))
    anchors, same = numbers.to(vectors.device), same.to(vectors.device)
    logits = vectors @ vectors.T * recipe.scale  # (texts, texts)
    logits = logits.masked_fill(torch.eye(count, dtype=torch.bool, device=vectors.device), float("-inf"))
    own = logits.masked_fill(~same, float("-inf"))[anchors].logsumexp(dim=1)
    lost = logits[anchors].logsumexp(dim=1) - own
    return lost.mean(), Shares(numbers.tolist(), (-lost.detach()).exp())


def pairs(vectors: torch.Tensor, batch: Batch, recipe: Recipe) -> torch.Tensor:
    """Gives the cross-entropy of each input's document among all of its batch, and of the other way round."""
    import torch

    inputs, documents = vectors[: len(batch.inputs)], vectors[len(batch.inputs) :]
    logits = inputs @ documents.T * recipe.scale  # (inputs, documents)
    if batch.masked:
        rows, columns = zip(*batch.masked, strict=True)
        mask = torch.zeros_like(logits, dtype=torch.bool)
        mask[list(rows), list(columns)] = True
        logits = logits.masked_fill(mask, float("-inf"))
    positives = torch.tensor(batch.positives, device=logits.device)
    loss = torch.nn.functional.cross_entropy(logits, positives)
    if not recipe.symmetric:
        return loss
    # Row i: the document of input i against every input; where it is the document of others too, those are masked.
    reverse = logits.T[positives]  # (inputs, inputs)
    same = positives[:, None] == positives[None, :]
    same.fill_diagonal_(fill_value=False)
    reverse = reverse.masked_fill(same, float("-inf"))
    other = torch.nn.functional.cross_entropy(reverse, torch.arange(len(reverse), device=reverse.device))
    return (loss + recipe.symmetric * other) / (1.0 + recipe.symmetric)


def _turn(texts: Sequence[str], done: int) -> list[int]:
    return [(done * GENERAL + number) % len(texts) for number in range(min(GENERAL, len(texts)))]
