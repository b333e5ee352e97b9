"""What happened beside each id of a list (its category, the action, how long ago), as part of the id's embedding.

Belongs here: adding it, to the list's ids and to what they are compared with. Not here: pooling (history.py), how the
lists are aligned (pipeline/transforms/).
"""

from collections.abc import Sequence

from torch import Tensor, nn

from models.layers import Linear
from models.network_spec import NetworkSpec


class Sides(nn.Module):
    """k_v + sum_s W_s k_sv for each place v of a list; where s lists an id column, q + W_s x_s of the impression's own.

    This is a projection of the concatenation (as DIN and SIM concatenate an item's id, shop and category), whose part
    for the id itself is the identity: with W_s = 0 a network is what it was without s.

    Args:
        members: S.

    Shape:
        keys (S, V, E) of lists, then of sides; targets (S, B, E); fields (S, B, F, E) -> keys and targets of lists
    """

    def __init__(self, members: int, spec: NetworkSpec) -> None:
        super().__init__()
        width = spec.network.embedding
        self.lists = [spec.pooled.index(side.list) for side in spec.sides]
        ids = dict(zip(spec.id_names, range(len(spec.ids)), strict=True))
        self.fields = [ids.get(side.of) if side.of else None for side in spec.sides]
        # By name, so that a grown network finds them.
        self.projections = nn.ModuleDict({side.name: Linear(members, width, width, bias=False) for side in spec.sides})

    def forward(
        self, keys: Sequence[Tensor], targets: Sequence[Tensor], fields: Tensor
    ) -> tuple[list[Tensor], list[Tensor]]:
        keys, beside, targets = list(keys[: len(targets)]), keys[len(targets) :], list(targets)
        for project, index, field, key in zip(self.projections.values(), self.lists, self.fields, beside, strict=True):
            keys[index] = keys[index] + project(key)
            if field is not None:
                targets[index] = targets[index] + project(fields[:, :, field])
        return keys, targets
