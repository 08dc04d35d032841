"""The weights that learn: in float32, and beside them, where products are in bfloat16, the rounded ones that are used.

A step changes a weight by less than bfloat16 can tell, so what is summed up, and stored, is float32 (Micikevicius et
al. 2018, "Mixed Precision Training"). The model is rounded as a whole: nothing is converted on the way through it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


class Weights:
    """The weights of a training.

    Args:
        used: the parameters of the model, in float32, by name.
        model: whose parameters these are.
        small: whether the model is rounded to bfloat16 from here on.
    """

    def __init__(self, used: Mapping[str, torch.nn.Parameter], model: torch.nn.Module, *, small: bool) -> None:
        import torch

        self._used = list(used.values())
        self._small = small
        self.names = list(used)
        self.masters: list[torch.nn.Parameter] = self._used
        if small:
            self.masters = [torch.nn.Parameter(parameter.detach().clone()) for parameter in self._used]
            model.bfloat16()

    def forget_gradients(self) -> None:
        """Makes room for the gradients of a step."""
        for parameter in self._used:
            parameter.grad = None

    def take_gradients(self) -> None:
        """Brings the gradients of the model over to the weights that are summed up."""
        if not self._small:
            return
        for master, parameter in zip(self.masters, self._used, strict=True):
            master.grad = None if parameter.grad is None else parameter.grad.float()

    def give(self) -> None:
        """Gives the model the weights as they are now."""
        import torch

        if self._small:
            used: list[torch.Tensor] = list(self._used)
            masters: list[torch.Tensor] = list(self.masters)
            with torch.no_grad():
                torch._foreach_copy_(used, masters)
