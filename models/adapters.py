"""Student adapters: small networks that recalibrate a teacher's logit by fresh labels.

Belongs here: g, how it is fitted, its state. Not here: the head that learns from it (distillation.py), maps in closed
form (recalibration.py).
"""

import torch
from torch import Tensor, nn

from exfm.distillation import STALENESS, SURFACE, StudentAdapter
from models.distillation import masked_bce
from models.optimisers import Adam

SURFACES = 16  # one-hot columns that hashed surfaces share


class Adapter(nn.Module):
    """g: a small MLP on the teacher's logit that follows fresh labels: (B, T) -> (B, T), each task on its own.

    It starts as the identity, so that it recalibrates from the teacher and not from noise.

    Args:
        declared: ``context`` names what it sees beside the logit.
    """

    def __init__(self, declared: StudentAdapter, seed: int) -> None:
        super().__init__()
        context = (STALENESS in declared.context) + SURFACES * (SURFACE in declared.context)
        self.declared = declared
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + 2)
            self.inner = nn.Linear(1 + context, declared.hidden)
            self.outer = nn.Linear(declared.hidden, 1)
            nn.init.zeros_(self.outer.weight)
            nn.init.zeros_(self.outer.bias)

    @property
    def has_context(self) -> bool:
        return bool(self.declared.context)

    def context_of(self, staleness: Tensor | None, surfaces: Tensor | None) -> Tensor:
        """(N,) hours and (N,) hashes, those that are declared, as (N, C) numbers of about one."""
        parts = []
        if STALENESS in self.declared.context:
            assert staleness is not None
            parts.append(staleness.clamp(min=0).log1p().nan_to_num(0.0).unsqueeze(1) / 3)
        if SURFACE in self.declared.context:
            assert surfaces is not None
            parts.append(nn.functional.one_hot(torch.remainder(surfaces, SURFACES), SURFACES).float())
        return torch.cat(parts, dim=1)

    def forward(self, logits: Tensor, context: Tensor | None = None) -> Tensor:
        x = logits.unsqueeze(2)  # (B, T) -> (B, T, 1)
        if context is not None:
            x = torch.cat([x, context.unsqueeze(1).expand(-1, logits.shape[1], -1)], dim=2)  # (B, T, 1 + C)
        calibrated: Tensor = self.outer(torch.tanh(self.inner(x))).squeeze(2)  # (B, T, 1) -> (B, T)
        return logits + calibrated


def adapter_loss(
    adapter: Adapter, teacher: Tensor, labels: Tensor, context: Tensor | None = None, weights: Tensor | None = None
) -> Tensor:
    """h(g(p), y) over rows with both: what g alone learns from. (B, T), (B, T) -> ()"""
    both = teacher.isfinite() & labels.isfinite()
    targets = torch.where(both, labels, torch.nan)
    return masked_bce(adapter(teacher.nan_to_num(0.0), context).unsqueeze(0), targets.unsqueeze(0), weights).sum()


class FittedAdapter:
    """An adapter with its own optimiser: one step on labels, then its predictions."""

    def __init__(self, declared: StudentAdapter, seed: int, device: str) -> None:
        self.adapter = Adapter(declared, seed).to(device)
        self.adam = Adam(self.adapter, declared.learning_rate)

    def step(self, teacher: Tensor, labels: Tensor, context: Tensor | None, weights: Tensor | None = None) -> Tensor:
        """(B, T) -> (B, T) probabilities, NaN where the teacher has none."""
        self.adam.step(adapter_loss(self.adapter, teacher, labels, context, weights))
        with torch.no_grad():
            calibrated = self.adapter(teacher.nan_to_num(0.0), context).sigmoid()
            return torch.where(teacher.isfinite(), calibrated, torch.nan)

    def state(self) -> dict[str, Tensor]:
        mine = {f"adapter.{name}": value for name, value in self.adapter.state_dict().items()}
        return mine | {f"adapter_adam.{name}": value for name, value in self.adam.state().items()}

    def load(self, state: dict[str, Tensor]) -> None:
        self.adapter.load_state_dict(_below("adapter.", state))
        self.adam.load(_below("adapter_adam.", state))


def _below(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin so, without that."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
