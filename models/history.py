"""Target attention: a user's history weighted by how relevant each entry is to the item.

Belongs here: attention over jagged lists. Not here: the lists (jagged.py), which view they come from.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.jagged import Jagged
from models.layers import Linear


class TargetAttention(nn.Module):
    """sum_v softmax_v(a(k_v, q)) k_v over a row's history k, with a small network a (DIN, arXiv 1706.06978).

    a sees [k, q, k - q, k q]. An empty history gives zeros. Rows are never padded: cost grows with the values.

    Args:
        members: S.
        width: E.
        hidden: width of a's layer.

    Shape:
        keys (S, V, E) of a jagged batch of B rows, target (S, B, E) -> (S, B, E)
    """

    LIMIT = 15.0  # of scores: their exponentials stay inside float32 without a maximum per row

    def __init__(self, members: int, width: int, hidden: int) -> None:
        super().__init__()
        self.first = Linear(members, 4 * width, hidden)
        self.score = Linear(members, hidden, 1, bias=False)  # a softmax does not see a shift

    def forward(self, keys: Tensor, target: Tensor, history: Jagged) -> Tensor:
        members, values, width = keys.shape
        row = history.row_of()  # (V,)
        query = target[:, row]  # (S, B, E) -> (S, V, E)
        scored = self.score(torch.relu(self.first(torch.cat([keys, query, keys - query, keys * query], dim=2))))
        weight = self.LIMIT * torch.tanh(scored.float().squeeze(2) / self.LIMIT)  # (S, V)
        weight = weight.exp()
        total = torch.zeros(members, len(history), device=keys.device).index_add(1, row, weight)  # (S, B)
        share = weight / total[:, row]
        return self._sums(keys.float(), share, history)

    @staticmethod
    def _sums(keys: Tensor, share: Tensor, history: Jagged) -> Tensor:
        """Weighted sums by row, one kernel: (S, V, E), (S, V) -> (S, B, E)."""
        members, values, width = keys.shape
        if values == 0:
            return keys.new_zeros(members, len(history), width)
        starts = torch.arange(members, device=keys.device).unsqueeze(1) * values + history.offsets[:-1]  # (S, B)
        bags = F.embedding_bag(
            torch.arange(members * values, device=keys.device), keys.reshape(-1, width), starts.flatten(),
            mode="sum", per_sample_weights=share.flatten(),
        )  # fmt: skip
        return bags.view(members, len(history), width)
