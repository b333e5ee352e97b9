"""Recalibrations: a teacher's probability mapped to the rates that earlier slices had, in closed form.

Belongs here: Platt's and the isotonic map, and what they remember. Not here: student adapters (adapters.py).
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from exfm.distillation import Recalibration


class Recalibrator:
    """Platt's or an isotonic map, fitted to what is remembered of the slices before: counts by the logit's bin.

    A slice's own labels enter after its training. Before the first slice the map is the identity.
    """

    BINS, LIMIT = 240, 12.0

    def __init__(self, declared: Recalibration, tasks: int, device: str) -> None:
        self.declared, self.device = declared, device
        self.counts = torch.zeros(tasks, self.BINS, 2, dtype=torch.float64)  # rows, positives
        edges = np.linspace(-self.LIMIT, self.LIMIT, self.BINS + 1)
        self.centres: NDArray[np.float64] = (edges[1:] + edges[:-1]) / 2

    def apply(self, teacher: Tensor) -> Tensor:
        """Logits (N, T) -> probabilities (N, T), NaN where the teacher has none."""
        x = teacher.double().cpu().numpy()
        mapped = [self._map(self.counts[task].numpy(), x[:, task]) for task in range(x.shape[1])]
        return torch.from_numpy(np.stack(mapped, axis=1).astype(np.float32)).to(self.device)

    def remember(self, teacher: Tensor, labels: Tensor, weights: Tensor | None = None, *, fade: bool = True) -> None:
        """Add a slice, (N, T) each, by the weights of its rows, (N,); older ones fade by the declared half-life.

        Args:
            fade: not for what is another part of the slice that was added last.
        """
        self.counts *= 0.5 ** (1 / self.declared.half_life) if fade else 1.0
        for task in range(teacher.shape[1]):
            both = (teacher[:, task].isfinite() & labels[:, task].isfinite()).cpu()
            x, y = teacher[:, task].cpu()[both].double(), labels[:, task].cpu()[both].double()
            bins = ((x + self.LIMIT) / (2 * self.LIMIT) * self.BINS).long().clamp(0, self.BINS - 1)
            counted = None if weights is None else weights.cpu()[both].double()
            self.counts[task, :, 0] += torch.bincount(bins, weights=counted, minlength=self.BINS)
            positives = y if counted is None else y * counted
            self.counts[task, :, 1] += torch.bincount(bins, weights=positives, minlength=self.BINS)

    def state(self) -> dict[str, Tensor]:
        return {"recalibration.counts": self.counts}

    def load(self, state: dict[str, Tensor]) -> None:
        self.counts = state["recalibration.counts"].cpu().clone()

    def _map(self, counts: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
        if counts[:, 1].sum() < 1 or (counts[:, 0] - counts[:, 1]).sum() < 1:
            return 1 / (1 + np.exp(-x))
        if self.declared.kind == "platt":
            scale, shift = platt(self.centres, counts[:, 0], counts[:, 1])
            return 1 / (1 + np.exp(-(scale * x + shift)))
        seen = counts[:, 0] > 0
        rates = isotonic(counts[seen, 1] / counts[seen, 0], counts[seen, 0])
        mapped: NDArray[np.float64] = np.interp(x, self.centres[seen], rates)
        return np.where(np.isfinite(x), mapped.clip(1e-4, 1 - 1e-4), np.nan)


def platt(x: NDArray[np.float64], rows: NDArray[np.float64], positives: NDArray[np.float64]) -> tuple[float, float]:
    """Scale and shift of a logit that maximise the likelihood of grouped outcomes, by Newton (Platt 1999)."""
    beta = np.array([1.0, 0.0])
    design = np.stack([x, np.ones_like(x)], axis=1)  # (K, 2)
    for _ in range(50):
        p = 1 / (1 + np.exp(-(design @ beta)))
        gradient = design.T @ (positives - rows * p)
        curvature = design.T @ (design * (rows * p * (1 - p))[:, None]) + 1e-6 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        beta = beta + step.clip(-1, 1)
        if math.hypot(*step) < 1e-9:
            break
    return float(beta[0]), float(beta[1])


def isotonic(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rising sequence nearest to ``values`` in weighted squares: pool adjacent violators (Ayer et al. 1955)."""
    pools: list[tuple[float, float, int]] = []  # mean, weight, length
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        pool = (value, weight, 1)
        while pools and pools[-1][0] >= pool[0]:
            mean, before, length = pools.pop()
            both = before + pool[1]
            pool = ((mean * before + pool[0] * pool[1]) / both, both, length + pool[2])
        pools.append(pool)
    return np.repeat([mean for mean, _, _ in pools], [length for _, _, length in pools])
