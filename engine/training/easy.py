"""Old texts that a model has no trouble with: they stand in a batch as they were encoded last, and cost nothing.

Most texts of a training are old ones that are rehearsed, and most of those are told apart soon. What is spent on them
moves nothing, so the steps go to the texts that still teach (Jiang et al. 2019, "Accelerating Deep Learning by Focusing
on the Biggest Losers"). The others are needed all the same, for a text to be told from; the vectors that they had some
steps ago do for that (Wu et al. 2018, "Unsupervised Feature Learning via Non-Parametric Instance Discrimination").
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from .recipe import Recipe

if TYPE_CHECKING:
    import torch


class Easy:
    """What was seen of each text when it was encoded last.

    Args:
        place: gives each text a number.
        new: texts that are encoded each time, whatever they came to.
        recipe: from which share on, and for how long, a text is left alone.
        like: (…, dim), a tensor on the device of the training.
    """

    def __init__(self, place: Mapping[str, int], new: Collection[str], recipe: Recipe, like: torch.Tensor) -> None:
        import torch

        self._place, self._new = place, frozenset(new)
        self._share, self._epochs = recipe.easy, recipe.easy_epochs
        self._shares = torch.zeros(len(place))
        self._since = torch.full((len(place),), -1, dtype=torch.int64)
        self._vectors = torch.zeros((len(place), like.shape[1]), device=like.device)

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        """By name all that is remembered: a training that goes on has to know it."""
        return {"shares": self._shares, "since": self._since, "vectors": self._vectors}

    def parted(self, texts: Sequence[str], epoch: int) -> tuple[list[int], list[int]]:
        """Gives, by number, the texts to encode and those to leave alone, in order."""
        rows = self._rows(texts)
        shares, since = self._shares[rows].tolist(), self._since[rows].tolist()
        easy = [
            text not in self._new and share >= self._share and seen >= 0 and epoch - seen <= self._epochs
            for text, share, seen in zip(texts, shares, since, strict=True)
        ]
        numbers = range(len(texts))
        if all(easy):  # a batch without anything to learn from has no gradient
            return list(numbers), []
        return [at for at in numbers if not easy[at]], [at for at in numbers if easy[at]]

    def vectors(self, texts: Sequence[str]) -> torch.Tensor:
        """Gives the vectors that texts had when they were encoded last, (texts, dim)."""
        return self._vectors[self._rows(texts)]

    def encoded(self, texts: Sequence[str], vectors: torch.Tensor, epoch: int) -> None:
        """Remembers what texts were encoded to, (texts, dim)."""
        rows = self._rows(texts)
        self._vectors[rows] = vectors.detach().float()
        self._since[rows] = epoch

    def judged(self, texts: Sequence[str], shares: torch.Tensor) -> None:
        """Remembers the share that each text's own answer had in the vote of its batch, (texts,)."""
        self._shares[self._rows(texts)] = shares.detach().float().cpu()

    def _rows(self, texts: Sequence[str]) -> list[int]:
        return [self._place[text] for text in texts]
