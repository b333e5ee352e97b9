"""The dense optimiser: torch's Adam with its state by parameter name, so that a checkpoint can hold it.

Belongs here: the dense step, and by which kernels. Not here: the embedding table's row-wise Adagrad (embedding.py).
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from exfm.learning import Training

MOMENTS = ("step", "exp_avg", "exp_avg_sq")


class Adam:
    """Adam (Kingma, Ba 2015) over a module's parameters, fused: one kernel a step instead of dozens.

    torch's functional form: the optimiser class around it looks at every option of every parameter at every step, which
    takes a tenth of a small network's time.
    """

    BETAS, EPS = (0.9, 0.999), 1e-8

    def __init__(self, module: nn.Module, learning_rate: float) -> None:
        self.names = [name for name, _ in module.named_parameters()]
        self.parameters = list(module.parameters())
        self.learning_rate = learning_rate
        self._state: dict[str, dict[str, Tensor]] = {}  # of each parameter that was ever updated

    @property
    def has_stepped(self) -> bool:
        return bool(self._state)

    def step(self, loss: Tensor) -> None:
        """Backward and one update; a parameter that the loss does not reach keeps its bits."""
        loss.backward()
        reached = [(name, p, p.grad) for name, p in zip(self.names, self.parameters, strict=True) if p.grad is not None]
        moments = [self._moments(name, parameter) for name, parameter, _ in reached]
        with torch.no_grad():
            adam(
                [parameter for _, parameter, _ in reached], [gradient for _, _, gradient in reached],
                [moment["exp_avg"] for moment in moments], [moment["exp_avg_sq"] for moment in moments], [],
                [moment["step"] for moment in moments], fused=True, amsgrad=False, beta1=self.BETAS[0],
                beta2=self.BETAS[1], lr=self.learning_rate, weight_decay=0.0, eps=self.EPS, maximize=False,
            )  # fmt: skip
        for _, parameter, _ in reached:
            parameter.grad = None  # now: replayed CUDA graphs write the next ones to the same memory

    def _moments(self, name: str, parameter: Tensor) -> dict[str, Tensor]:
        if name not in self._state:
            self._state[name] = {
                "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                "exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format),
                "exp_avg_sq": torch.zeros_like(parameter, memory_format=torch.preserve_format),
            }
        return self._state[name]

    def state(self) -> dict[str, Tensor]:
        """``<parameter>.<moment>`` of every parameter that was ever updated."""
        return {
            f"{name}.{moment}": self._state[name][moment]
            for name in self.names
            for moment in MOMENTS
            if name in self._state
        }

    def load(self, state: dict[str, Tensor]) -> None:
        for name, parameter in zip(self.names, self.parameters, strict=True):
            if f"{name}.step" in state:
                # Fused kernels want the step count on the parameter's device, and the moments like the parameter.
                self._state[name] = {m: state[f"{name}.{m}"].clone().to(parameter.device) for m in MOMENTS}


def compiled(networks: nn.Module, training: Training) -> Callable[..., Tensor]:
    """The networks as a training asks for them: as they are, compiled, or compiled into CUDA graphs."""
    if not training.compile:
        return networks
    mode = "reduce-overhead" if training.cuda_graphs else None
    whole: Callable[..., Tensor] = torch.compile(networks, dynamic=True, mode=mode)
    return whole


@contextmanager
def repeatable(enabled: bool) -> Iterator[None]:
    """Only kernels that give the same bits every time, while inside; a CPU has no others."""
    if not enabled:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS refuses determinism without it
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
