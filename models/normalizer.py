"""Running mean and variance of each number, so that a network sees all of them on one scale.

Belongs here: the statistics, how slices are merged into them, and how they are applied.
Not here: log1p of counts (the code that makes the slice knows which columns are counts).
"""

from collections.abc import Sequence

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
        unbounded: positions of numbers that nobody has bounded, as a log's own. In a slice's statistics, what lies
            further than ``FAR`` times the spread of its middle 98 % from them counts as lying there: one 999999 for
            "unknown" would else make all other values look alike.
    """

    CLIP = 8.0
    CHUNK = 2**16  # rows in float64 at a time
    FAR, SAMPLE = 5.0, 2**17  # rows that quantiles are taken of
    ROUNDING = 1e-20  # relative variance that a sum of equal numbers can have in float64

    def __init__(self, width: int, device: torch.device | str = "cpu", unbounded: Sequence[int] = ()) -> None:
        self.unbounded = torch.tensor(unbounded, dtype=torch.int64, device=device)
        self.count = torch.zeros(width, dtype=torch.float64, device=device)
        self.mean = torch.zeros(width, dtype=torch.float64, device=device)
        self.squares = torch.zeros(width, dtype=torch.float64, device=device)  # sum of (x - mean)^2
        self._refresh()

    def update(self, numbers: Tensor, rows: Tensor | None = None) -> None:
        """Merge a slice's numbers, (N, D), of all or some rows (M,); missing and infinite ones are left out."""
        chosen = torch.arange(len(numbers), device=numbers.device) if rows is None else rows
        least, most = self._bounds(numbers, chosen)
        for chunk in chosen.split(self.CHUNK) if numbers.shape[1] else ():
            x = numbers[chunk].double()
            self._merge(x if least is None else torch.where(x.isfinite(), x.clamp(least, most), x))
        self._refresh()

    def _bounds(self, numbers: Tensor, rows: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Where each number of a slice is cut, (D,) each; infinite for those that are bounded."""
        if not len(self.unbounded) or not len(rows):
            return None, None
        sample = numbers[rows[:: -(-len(rows) // self.SAMPLE), None], self.unbounded].double()
        sample = torch.where(sample.isfinite(), sample, torch.nan)
        low, high = (sample.nanquantile(share, dim=0) for share in (0.01, 0.99))
        reach = self.FAR * (high - low)
        known = reach > 0  # of a number that is nearly always the same there is no spread; NaN where none is known
        least = torch.full((numbers.shape[1],), -torch.inf, dtype=torch.float64, device=numbers.device)
        most = -least
        least[self.unbounded[known]], most[self.unbounded[known]] = (low - reach)[known], (high + reach)[known]
        return least, most

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
