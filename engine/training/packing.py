"""Texts of different lengths in rows of one length, several texts a row, so that hardly anything is padding.

Which tokens may attend to which says a mask of blocks; positions begin anew with each text. The method is that of Krell
et al. 2021, "Efficient Sequence Packing without Cross-contamination", by first fit decreasing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch

_WIDTH, _ROWS = 8, 2
"""What the length and the number of rows are rounded up to: kernels are made anew for each shape that comes."""
_WIDTH_MIN = 48


class Packing(NamedTuple):
    """Where texts lie in (rows, width) tokens: ``starts`` counts them row after row."""

    rows: int
    width: int
    starts: list[int]
    lengths: list[int]

    def places(self) -> torch.Tensor:
        """Gives the place of every token, (tokens,), text after text."""
        import torch

        return torch.cat([torch.arange(at, at + length) for at, length in zip(self.starts, self.lengths, strict=True)])

    def positions(self) -> torch.Tensor:
        """Gives the number of every token in its own text, (tokens,)."""
        import torch

        return torch.cat([torch.arange(length) for length in self.lengths])

    def spread(self, parts: Sequence[torch.Tensor]) -> torch.Tensor:
        """Lays what each text has for its tokens, (tokens, …) each, out in rows, (rows, width, …); zeros elsewhere."""
        import torch

        whole = torch.cat(list(parts))
        laid = whole.new_zeros((self.rows * self.width, *whole.shape[1:]))
        laid[self.places().to(laid.device)] = whole
        return laid.view(self.rows, self.width, *whole.shape[1:])

    def mask(self, dtype: torch.dtype) -> torch.Tensor:
        """Gives what is added to the scores of attention, (rows, 1, width, width): nothing within a text.

        Tokens of no text attend to each other, since a row of nothing but refusals has no softmax.
        """
        import torch

        owners = self.spread([torch.full((length,), number + 1) for number, length in enumerate(self.lengths)])
        apart = owners[:, None, :, None] != owners[:, None, None, :]
        return torch.zeros(apart.shape, dtype=dtype).masked_fill_(apart, torch.finfo(dtype).min)

    def gathered(self, flat: torch.Tensor, texts: range) -> tuple[torch.Tensor, torch.Tensor]:
        """Takes some texts out of the rows again.

        Args:
            flat: (rows · width, dim).
            texts: which, by number.

        Returns:
            (texts, longest, dim), and (texts, longest) with 1 where a token is; elsewhere stands that of another text.
        """
        import torch

        lengths = torch.tensor([self.lengths[number] for number in texts])
        starts = torch.tensor([self.starts[number] for number in texts])
        steps = torch.arange(int(lengths.max()))
        there = steps[None] < lengths[:, None]
        index = (starts[:, None] + steps[None] * there).to(flat.device)
        taken = flat.index_select(0, index.flatten()).view(*index.shape, flat.shape[1])
        return taken, there.long().to(flat.device)


def pack(lengths: Sequence[int]) -> Packing:
    """Puts each text, the longest first, into the first row that has room for it.

    Args:
        lengths: tokens of each text.
    """
    width = max(_WIDTH_MIN, -(-max(lengths) // _WIDTH) * _WIDTH)
    filled: list[int] = []
    starts = [0] * len(lengths)
    for number in sorted(range(len(lengths)), key=lambda number: (-lengths[number], number)):
        row = next((row for row, used in enumerate(filled) if used + lengths[number] <= width), len(filled))
        if row == len(filled):
            filled.append(0)
        starts[number] = row * width + filled[row]
        filled[row] += lengths[number]
    return Packing(-(-len(filled) // _ROWS) * _ROWS, width, starts, list(lengths))
