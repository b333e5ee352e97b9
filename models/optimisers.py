"""The dense optimiser: torch's Adam with its state by parameter name, so that a checkpoint can hold it.

Belongs here: the dense step, and by which kernels. Not here: the embedding table's row-wise Adagrad (embedding.py).
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from projects.learning import Training

MOMENTS = ("step", "exp_avg", "exp_avg_sq")


class Adam:
    """Adam (Kingma, Ba 2015) over a module's parameters, fused: one kernel a step instead of dozens."""

    def __init__(self, module: nn.Module, learning_rate: float) -> None:
        self.names = [name for name, _ in module.named_parameters()]
        self.parameters = list(module.parameters())
        self._adam = torch.optim.Adam(self.parameters, lr=learning_rate, fused=True)

    @property
    def has_stepped(self) -> bool:
        return bool(self._adam.state)

    def step(self, loss: Tensor) -> None:
        """Backward and one update; a parameter that the loss does not reach keeps its bits."""
        loss.backward()
        self._adam.step()
        self._adam.zero_grad(set_to_none=True)  # now: replayed CUDA graphs write the next ones to the same memory

    def state(self) -> dict[str, Tensor]:
        """``<parameter>.<moment>`` of every parameter that was ever updated."""
        return {
            f"{name}.{moment}": self._adam.state[parameter][moment]
            for name, parameter in zip(self.names, self.parameters, strict=True)
            for moment in MOMENTS
            if parameter in self._adam.state
        }

    def load(self, state: dict[str, Tensor]) -> None:
        for name, parameter in zip(self.names, self.parameters, strict=True):
            if f"{name}.step" in state:
                # Adam keeps its step count on the parameter's device when fused, and the moments like the parameter.
                self._adam.state[parameter] = {m: state[f"{name}.{m}"].clone().to(parameter.device) for m in MOMENTS}


def compiled(networks: nn.Module, training: Training) -> Callable[..., Tensor]:
    """The networks as a training asks for them: as they are, compiled, or compiled into CUDA graphs."""
    if not training.compile:
        return networks
    mode = "reduce-overhead" if training.cuda_graphs else None
    whole: Callable[..., Tensor] = torch.compile(networks, dynamic=True, mode=mode)
    return whole


@contextmanager
def repeatable(asked: bool) -> Iterator[None]:
    """Only kernels that give the same bits every time, while inside; a CPU has no others."""
    if not asked:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS refuses determinism without it
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
