"""Lists of ids as one field: a user's history weighted by how relevant each entry is to the item, or a sum, or a mean.

Belongs here: attention and pooling over jagged lists. Not here: the lists (jagged.py), where they come from.
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
        return weighted_sums(keys.float(), share, history)


class Pooled(nn.Module):
    """The sum or the mean of a row's embeddings; nothing is learnt. An empty list gives zeros.

    Args:
        mean: whether each list's weights add up to 1, or each is 1.

    Shape:
        as ``TargetAttention``; the target is not looked at.
    """

    def __init__(self, mean: bool) -> None:
        super().__init__()
        self.mean = mean

    def forward(self, keys: Tensor, target: Tensor, lists: Jagged) -> Tensor:
        share = torch.ones(keys.shape[:2], device=keys.device)
        if self.mean:
            lengths = lists.offsets.diff()
            share = share / torch.repeat_interleave(lengths, lengths)
        return weighted_sums(keys.float(), share, lists)


def weighted_sums(keys: Tensor, share: Tensor, lists: Jagged) -> Tensor:
    """Weighted sums by row, one kernel: (S, V, E), (S, V) -> (S, B, E)."""
    members, values, width = keys.shape
    if values == 0:
        return keys.new_zeros(members, len(lists), width)
    starts = torch.arange(members, device=keys.device).unsqueeze(1) * values + lists.offsets[:-1]  # (S, B)
    bags = F.embedding_bag(
        torch.arange(members * values, device=keys.device), keys.reshape(-1, width), starts.flatten(),
        mode="sum", per_sample_weights=share.flatten(),
    )  # fmt: skip
    return bags.view(members, len(lists), width)
