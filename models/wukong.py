"""A layer of Wukong: a factorisation machine over fields beside a linear compression of them.

Belongs here: the layer of S members. Not here: how layers are stacked (trunks.py), simpler interactions
(interactions.py).
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from models.axes import Axes, Labels
from models.layers import MLP, LayerNorm, Linear


class WukongLayer(nn.Module):
    """A factorisation-machine block beside a linear compression, with residual and norm (arXiv 2403.02545).

    FMB(X) = MLP(LN(flat(X (X^T Y)))) with a learned Y (F, r) in place of X X^T, so it costs F r E and not F^2 E;
    LCB(X) = W X. The next layer's fields are LN([FMB(X), LCB(X)] + R X), R the identity where the fields are as many.

    Args:
        members: S.
        before, fields: F fields come in; twice ``fields`` go out, half of each block.
        width: E.
        rank: r.
        mixer: width of the MLP's hidden layer.
        late: positions of fields that came when the rest had learnt. They are normalised by what the others are, and
            need a residual of weights, so that the layer gives what it gave while nothing is learnt of them.

    Shape:
        (S, B, F, E) -> (S, B, 2 fields, E)
    """

    def __init__(
        self, members: int, before: int, fields: int, width: int, rank: int, mixer: int, late: Sequence[int] = ()
    ) -> None:
        super().__init__()
        self.fields, self.width, self.rank = fields, width, rank
        self.project = Linear(members, before, rank, bias=False)
        counted = [field * rank + column for field in range(before) if field not in late for column in range(rank)]
        self.norm_pairs = LayerNorm(members, before * rank, counted if late else None)
        self.mix = MLP(members, before * rank, (mixer,))
        self.spread = Linear(members, mixer, fields * width)
        self.compress = Linear(members, before, fields, bias=False)
        is_same = before == 2 * fields and not late
        self.residual = None if is_same else Linear(members, before, 2 * fields, bias=False)
        self.norm = LayerNorm(members, width)

    @staticmethod
    def _over_fields(layer: nn.Module, turned: Tensor) -> Tensor:
        """A linear layer across fields: (S, B, E, F) -> (S, B, E, F')."""
        mixed: Tensor = layer(turned.flatten(1, 2))
        # B is what remains, so an exported graph holds no batch's size.
        return mixed.view(turned.shape[0], -1, turned.shape[2], mixed.shape[2])

    def forward(self, x: Tensor) -> Tensor:
        turned = x.transpose(2, 3)  # (S, B, F, E) -> (S, B, E, F)
        pairs = torch.matmul(x, self._over_fields(self.project, turned))  # (S, B, F, E) (S, B, E, r) -> (S, B, F, r)
        machine: Tensor = self.spread(self.mix(self.norm_pairs(pairs.flatten(2))))  # (S, B, fields E)
        machine = machine.unflatten(2, (self.fields, self.width))
        linear = self._over_fields(self.compress, turned).transpose(2, 3)  # (S, B, fields, E)
        kept = x if self.residual is None else self._over_fields(self.residual, turned).transpose(2, 3)
        return cast(Tensor, self.norm(torch.cat([machine.to(linear.dtype), linear], dim=2) + kept))

    def axes(self, fields: Labels) -> dict[str, Axes]:
        """Of every weight that depends on the fields that come in."""
        pairs = tuple((field, column) for field in fields for column in range(self.rank))
        axes = {f"{name}.weight": Axes(reads=fields) for name in ("project", "compress", "residual")}
        axes |= {f"norm_pairs.{name}": Axes(makes=pairs) for name in ("weight", "bias")}
        return axes | {"mix.layers.0.weight": Axes(reads=pairs)}

    def implied(self) -> dict[str, Tensor]:
        """The identity that stands for a residual of weights: (S, F, 2 fields)."""
        identity = torch.eye(2 * self.fields).expand(len(self.norm.weight), -1, -1)
        return {} if self.residual is not None else {"residual.weight": identity}
