"""Running mean and variance of each number, so that a network sees all of them on one scale.

Belongs here: the statistics, how slices are merged into them, and how they are applied.
Not here: log1p of counts (the code that makes the slice knows which columns are counts).
"""

import torch
from torch import Tensor


class Normalizer:
    """x -> clip((x - mean) / std, +-8), 0 where missing.

    Chunks are merged in float64 by Chan, Golub and LeVeque (1983), so a long stream loses no digits. A fit updates it
    once per slice, before the first step; scoring never does. A column that was never known, or never varied (counts
    of what is not counted yet), is 0 until a fit has seen it vary: a new feature does no harm before it is learned.

    Args:
        width: D, how many numbers.
        device: where the statistics lie.
    """

    CLIP = 8.0
    CHUNK = 2**16  # rows in float64 at a time
    ROUNDING = 1e-20  # relative variance that a sum of equal numbers can have in float64

    def __init__(self, width: int, device: torch.device | str = "cpu") -> None:
        self.count = torch.zeros(width, dtype=torch.float64, device=device)
        self.mean = torch.zeros(width, dtype=torch.float64, device=device)
        self.squares = torch.zeros(width, dtype=torch.float64, device=device)  # sum of (x - mean)^2
        self._refresh()

    def update(self, numbers: Tensor) -> None:
        """Merge a slice's numbers, (N, D); missing and infinite ones are left out."""
        for chunk in numbers.split(self.CHUNK) if numbers.shape[1] else ():
            self._merge(chunk.double())
        self._refresh()

    def _merge(self, x: Tensor) -> None:
        known = x.isfinite()
        count = known.sum(dim=0).double()  # (N, D) -> (D,)
        mean = torch.where(known, x, 0.0).sum(dim=0) / count.clamp(min=1)
        squares = torch.where(known, x - mean, 0.0).square().sum(dim=0)
        total = self.count + count
        share = count / total.clamp(min=1)
        shift = mean - self.mean
        self.squares = self.squares + squares + shift.square() * self.count * share
        self.mean = self.mean + shift * share
        self.count = total

    def _refresh(self) -> None:
        variance = self.squares / self.count.clamp(min=1)
        self._shift = self.mean.float()
        # What never varied says nothing yet: in training it was 0, so its values would meet weights never trained.
        varied = variance > self.ROUNDING * self.mean.square()
        self._scale = torch.where(varied, variance.clamp(min=1e-12).rsqrt(), 0.0).float()

    def apply_(self, numbers: Tensor) -> Tensor:
        """Normalise a gathered batch in place, (B, D) -> (B, D)."""
        return numbers.sub_(self._shift).mul_(self._scale).clamp_(-self.CLIP, self.CLIP).nan_to_num_(nan=0.0)

    def state(self) -> dict[str, Tensor]:
        return {"count": self.count, "mean": self.mean, "squares": self.squares}

    def load(self, state: dict[str, Tensor]) -> None:
        for name, mine in self.state().items():
            mine.copy_(state[name])
        self._refresh()
