"""Running quantiles of numbers, by which a number becomes an id: its place among what the stream has lately shown.

Belongs here: edges, how slices are merged into them, and how they are applied. Not here: edges that are declared
(pipeline/transforms/inputs.py).
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from models.batch import SliceTensors, pick


class Quantiles:
    """x -> how many of K - 1 edges lie at or below it, K where missing; K ranges of equally many rows.

    The edges are the running mean of slices' own quantiles, in which a slice fades like any of the last ``MEMORY``. A
    fit updates them once, before the first step; scoring never does. Until a fit has seen enough of a number, all of it
    is missing.

    Args:
        ranges: (bucket, K) of each.
    """

    MEMORY = 20  # slices
    SAMPLE = 2**17  # rows of a slice that quantiles are taken of

    def __init__(self, ranges: Sequence[tuple[str, int]], device: torch.device | str = "cpu") -> None:
        self.names, self.counts = tuple(name for name, _ in ranges), dict(ranges)
        self.edges = {name: torch.zeros(count - 1, dtype=torch.float64, device=device) for name, count in ranges}
        self.seen = {name: torch.zeros(1, dtype=torch.int64, device=device) for name in self.names}

    @torch.no_grad()
    def update(self, tensors: SliceTensors) -> None:
        """Merge the rows of a slice whose label is known."""
        known = tensors.labels.isfinite().any(dim=1)
        for name, values in self._values(tensors):
            finite = values[known & values.isfinite()]
            if len(finite) < self.counts[name]:
                continue  # too few to divide
            sample = finite[:: -(-len(finite) // self.SAMPLE)]
            shares = torch.arange(1, self.counts[name], dtype=torch.float64, device=values.device) / self.counts[name]
            self.seen[name] += 1
            share = 1 / min(int(self.seen[name]), self.MEMORY)
            self.edges[name] += (sample.quantile(shares) - self.edges[name]) * share

    def ids(self, tensors: SliceTensors) -> Tensor:
        """(N, buckets) int64."""
        columns = []
        for name, values in self._values(tensors):
            ranges = torch.bucketize(values, self.edges[name], right=True)
            unknown = ~values.isfinite() | (self.seen[name] == 0)
            columns.append(ranges.masked_fill(unknown, self.counts[name]))
        return torch.stack(columns, dim=1) if columns else tensors.ids[:, :0]

    def _values(self, tensors: SliceTensors) -> list[tuple[str, Tensor]]:
        values = pick(tensors.numbers, tensors.number_names, self.names, "number").double() if self.names else None
        return [] if values is None else list(zip(self.names, values.unbind(dim=1), strict=True))

    def state(self) -> dict[str, Tensor]:
        edges = {f"{name}.edges": edges for name, edges in self.edges.items()}
        return {**edges, **{f"{name}.seen": seen for name, seen in self.seen.items()}}

    def load(self, state: Mapping[str, Tensor]) -> None:
        for name, mine in self.state().items():
            mine.copy_(state[name])
