"""The network that serves: one member's backbone and serving head, over embeddings that are looked up already.

Belongs here: what a request needs of a network, with lists padded. Not here: writing it as ONNX (export.py), looking
embeddings up (serving/).

Training reads lists one after the other without padding; a graph for other runtimes is simpler and faster over padded
ones. What a user has listed stands once for all candidates: its first dimension is 1, and broadcasts.
"""

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn

from models.history import Pooled, TargetAttention
from models.layers import Linear
from models.learner import Learner
from models.normalizer import Normalizer


class ServingNetwork(nn.Module):
    """Logits of a learner's first member.

    Shape:
        fields (N, F, E) of id columns, numbers (N, D and vectors) as they were logged (NaN where missing),
        lists (N or 1, L, E) each and lengths (N or 1,) each of those that are pooled -> logits (N, T)
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, learner: Learner) -> None:
        super().__init__()
        if len(learner.members) != 1:
            raise ValueError(f"a serving network is of one member, not of {len(learner.members)}")
        networks, self.spec = learner.networks, learner.spec
        self.trunk, self.serving, self.vectors = networks.trunk, networks.serving, networks.vectors
        self.pools = nn.ModuleList([*networks.attention, *networks.bags.values()])
        self.sides = networks.sides
        self.targets, self.widths = networks.targets, networks.widths
        self.register_buffer("shift", learner.normalizer._shift.clone())
        self.register_buffer("scale", learner.normalizer._scale.clone())

    def forward(self, fields: Tensor, numbers: Tensor, *lists: Tensor) -> Tensor:
        logits: Tensor = self.serving(self.trunk(*self.read(fields, numbers, *lists)))
        return logits.squeeze(0)

    def read(self, fields: Tensor, numbers: Tensor, *lists: Tensor) -> tuple[Tensor, Tensor]:
        """What the trunk reads: all fields (1, N, F, E), and numbers (1, N, D) on one scale."""
        count = len(self.spec.lists)
        keys, lengths = list(lists[:count]), lists[count:]
        targets = [fields[:, index] for index in self.targets]  # (N, E) each
        self._take_sides(keys, targets, fields)
        made = [
            self._pooled(pool, key, target, length).unsqueeze(1)
            for pool, key, target, length in zip(self.pools, keys, targets, lengths, strict=False)
        ]
        scaled = (numbers - self.shift) * self.scale
        scaled = scaled.clamp(-Normalizer.CLIP, Normalizer.CLIP).nan_to_num(nan=0.0)
        plain, *vectors = scaled.split(self.widths, dim=1)
        made += [
            project(vector.unsqueeze(0)).squeeze(0).unsqueeze(1)
            for project, vector in zip(self.vectors.values(), vectors, strict=True)
        ]
        all_fields = torch.cat([fields, *made], dim=1) if made else fields
        return all_fields.unsqueeze(0), plain.unsqueeze(0)

    def _take_sides(self, keys: list[Tensor], targets: list[Tensor], fields: Tensor) -> None:
        """As in ``Sides``, of padded lists."""
        beside = keys[len(self.pools) :]
        for project, index, field, key in zip(
            self.sides.projections.values(), self.sides.lists, self.sides.fields, beside, strict=True
        ):
            weight = cast(Linear, project).weight[0]  # (E, E)
            keys[index] = keys[index] + key @ weight
            if field is not None:
                targets[index] = targets[index] + fields[:, field] @ weight

    def _pooled(self, pool: nn.Module, keys: Tensor, target: Tensor, length: Tensor) -> Tensor:
        """(N or 1, L, E), (N, E), (N or 1,) -> (N, E)"""
        places = torch.arange(keys.shape[1], device=keys.device)
        given = (places < length.unsqueeze(1)).to(keys.dtype)  # (N or 1, L)
        if isinstance(pool, Pooled):
            share = given / length.clamp(min=1).unsqueeze(1).to(keys.dtype) if pool.mean else given
            return (share.unsqueeze(1) @ keys).squeeze(1) + torch.zeros_like(target)
        weight = self._relevance(cast(TargetAttention, pool), keys, target) * given  # (N, L)
        share = weight / weight.sum(dim=1, keepdim=True).clamp(min=1e-30)
        return (share.unsqueeze(1) @ keys).squeeze(1)

    def _relevance(self, attention: TargetAttention, keys: Tensor, target: Tensor) -> Tensor:
        """exp of the scores, (N, L). W [k, q, k - q, k q] is taken apart: what is of k alone is done once a user."""
        of_key, of_target, of_both, of_product = attention.first.weight[0].chunk(4)
        bias = cast(Tensor, attention.first.bias)[0]
        query = target.unsqueeze(1)  # (N, 1, E)
        hidden = keys @ (of_key + of_both) + query @ (of_target - of_both) + (keys * query) @ of_product + bias
        scored = torch.relu(hidden) @ attention.score.weight[0]  # (N, L, 1)
        limit = TargetAttention.LIMIT
        return (limit * torch.tanh(scored.squeeze(2) / limit)).exp()

    def names(self) -> Iterator[tuple[str, list[str | int]]]:
        """Inputs by name with their shapes; texts are dimensions that differ from request to request."""
        spec, width = self.spec, self.spec.network.embedding
        yield "fields", ["rows", len(spec.ids), width]
        yield "numbers", ["rows", sum(self.widths)]
        for at, (name, _) in enumerate(spec.lists):
            pooled = name if at < len(self.pools) else next(side.list for side in spec.sides if side.name == name)
            yield f"list:{name}", [f"rows of {pooled}", f"places of {pooled}", width]
        for name in spec.pooled:
            yield f"length:{name}", [f"rows of {name}"]
