"""Several processes that train together: each encodes its part of a batch, all see all vectors, gradients are added.

Every process computes the whole loss, of vectors of which only its own carry a gradient; the sum of the processes'
gradients is then the gradient of the loss, and the step of each the same. Under ``accelerate launch`` or ``torchrun``
the group is theirs; alone there is nothing to share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from .encoder import Encoder
    from .saved import Position


class Shards:
    """A process among ``count``, by default the only one."""

    def __init__(self, rank: int = 0, count: int = 1) -> None:
        self.rank, self.count = rank, count

    @property
    def first(self) -> bool:
        """Whether this process writes what all computed."""
        return self.rank == 0

    def encode(self, encoder: Encoder, texts: Sequence[str]) -> torch.Tensor:
        """Gives the vectors of all texts, (texts, dim); in order."""
        import torch

        if self.count == 1:
            return encoder.encode(texts)
        once = list(dict.fromkeys(texts))
        own = encoder.encode(once[self.rank :: self.count] or once[:1])
        widest = -(-len(once) // self.count)
        padded = torch.zeros((widest, own.shape[1]), dtype=own.dtype, device=own.device)
        with torch.no_grad():
            padded[: len(own)] = own
            parts = [torch.zeros_like(padded) for _ in range(self.count)]
            torch.distributed.all_gather(parts, padded)
        parts[self.rank] = torch.cat([own, padded[len(own) :]]) if len(own) < widest else own
        place = {text: (number % self.count) * widest + number // self.count for number, text in enumerate(once)}
        return torch.cat(parts)[torch.tensor([place[text] for text in texts], device=own.device)]

    def add_up(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Adds the gradients of all processes up; each has the same sum then."""
        if self.count == 1:
            return
        import torch

        given = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.reshape(-1) for gradient in given])
        torch.distributed.all_reduce(flat)
        start = 0
        for gradient in given:
            gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
            start += gradient.numel()

    def same(
        self,
        position: Position,
        parameters: Sequence[torch.nn.Parameter],
        optimizer: Any,
        schedule: Any,
        memory: Mapping[str, torch.Tensor],
    ) -> Position:
        """Gives every process the state that the first one read."""
        if self.count == 1:
            return position
        import torch

        weights = [parameter.detach() for parameter in parameters]
        states = [(position, weights, optimizer.state_dict(), schedule.state_dict(), dict(memory))]
        torch.distributed.broadcast_object_list(states, src=0)
        found, weights, moments, rates, known = states[0]
        if not self.first:
            with torch.no_grad():
                for parameter, weight in zip(parameters, weights, strict=True):
                    parameter.copy_(weight)
            for name, value in memory.items():
                value.copy_(known[name])
            optimizer.load_state_dict(moments)
            schedule.load_state_dict(rates)
        told: Position = found
        return told
