"""Threads of a step: one where products are small, and none that spins for long at a barrier.

Belongs here: how many threads, and how long they wait awake. Not here: what they compute.

torch's OpenMP threads wait for each other by spinning. While other work has the cores, a thread spins for one that does
not run: steps took a hundred times as long. What a user set in OpenMP's own variables stays.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # torch comes after bound_spin: its OpenMP library reads the environment once, when it is loaded
    from torch import nn

# Turns at a barrier before a thread sleeps. libgomp's own 300,000 are some 15 ms; these are as fast on quiet cores,
# where products are large, and leave a busy machine its share (docs/learning.md has both).
SPIN = "10000"
# Multiply-adds of a forward pass up to which a second thread brings less than a twentieth.
SMALL = 2**23


def bound_spin(environment: MutableMapping[str, str]) -> None:
    """Bound how long threads spin, for this process and those it starts; before torch is imported, or without effect.

    libgomp reads it, which torch brings on Linux; other OpenMP libraries do not spin this long.
    """
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", SPIN)


def multiply_adds(networks: nn.Module, rows: float, listed: float) -> float:
    """Of a step's forward pass: every product's weights meet every row, those of lists every listed id.

    Args:
        rows: of a batch; listed: ids of a row's histories.
    """
    products = {name: parameter.numel() for name, parameter in networks.named_parameters() if parameter.dim() >= 3}
    attention = sum(count for name, count in products.items() if name.startswith(("attention.", "bags.", "sides.")))
    return rows * (sum(products.values()) + (listed - 1) * attention)


@contextmanager
def threads_for(work: float) -> Iterator[None]:
    """As many threads as ``work`` multiply-adds a step are worth, while inside."""
    import torch

    before = torch.get_num_threads()
    if before == 1 or work > SMALL or "OMP_NUM_THREADS" in os.environ:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
