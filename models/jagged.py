"""Lists of different lengths, one after the other: no padding, so a short history costs what it holds.

Belongs here: taking rows. Not here: what is listed, attention over it (history.py).
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Jagged:
    """N lists: row n holds ``values[offsets[n]:offsets[n + 1]]``.

    Args:
        values: (V,)
        offsets: (N + 1,) int64, rising from 0 to V.
    """

    values: Tensor
    offsets: Tensor

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def to(self, device: torch.device | str) -> "Jagged":
        return Jagged(self.values.to(device), self.offsets.to(device))

    def take(self, rows: Tensor) -> "Jagged":
        """The lists of rows (M,) int64, in their order."""
        starts = self.offsets[rows]  # (M,)
        lengths = self.offsets[rows + 1] - starts
        offsets = torch.zeros(len(rows) + 1, dtype=torch.int64, device=lengths.device)
        torch.cumsum(lengths, 0, out=offsets[1:])
        shift = torch.repeat_interleave(starts - offsets[:-1], lengths)  # (V')
        return Jagged(self.values[shift + torch.arange(len(shift), device=shift.device)], offsets)

    def row_of(self) -> Tensor:
        """Which row each value belongs to, (V,)."""
        lengths = self.offsets.diff()
        return torch.repeat_interleave(torch.arange(len(self), device=lengths.device), lengths)
