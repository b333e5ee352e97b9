"""Sizes: how much memory a declared model needs at the least, against what the machine has.

Belongs here: counting. Not here: building (models/), which has the same numbers to within a few percent (a test).
"""

import os
from dataclasses import dataclass

from exfm.distillation import AuxiliaryHead, AuxiliaryTower, Distillation, StudentAdapter
from exfm.errors import DeclarationError
from exfm.networks import Network
from exfm.simulation import Simulation

FLOAT = 4  # bytes
STATES = 4  # of a weight that Adam moves: itself, its gradient, two moments


def memory() -> int:
    """Bytes of this machine's memory."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Reads:
    """What a model reads, in numbers.

    Args:
        rows: embedding rows of each id column.
        numbers: number columns.
        tasks: that it predicts.
        lengths: of each history and bag.
        bag_rows: embedding rows of bags, and of what stands beside lists, that have their own.
        sides: length of each list that stands beside another one.
        vectors: width of each vector.
    """

    rows: tuple[int, ...]
    numbers: int
    tasks: int
    lengths: tuple[int, ...] = ()
    bag_rows: tuple[int, ...] = ()
    vectors: tuple[int, ...] = ()
    sides: tuple[int, ...] = ()


def _beside(distillation: Distillation, out: int) -> tuple[int, int]:
    """Weights, and floats a row, that a distillation adds to a backbone of width ``out``."""
    if isinstance(distillation, AuxiliaryTower):
        return out * distillation.hidden, distillation.hidden
    if isinstance(distillation, AuxiliaryHead) and isinstance(distillation.adapter, StudentAdapter):
        return 3 * distillation.adapter.hidden, distillation.adapter.hidden
    return 0, 0


def check_model(where: str, network: Network, batch_size: int, reads: Reads, distillation: Distillation = None) -> None:
    """Refuse one model whose table, layers and one batch exceed the machine's memory.

    Raises:
        DeclarationError: naming what to make smaller.
    """
    fields, width = len(reads.rows) + len(reads.lengths) + len(reads.vectors), network.embedding
    more, wider = _beside(distillation, network.hidden[-1])
    attention = len(reads.lengths) * (4 * width + 1) * network.attention
    projected = sum((wide + 1) * width for wide in reads.vectors) + len(reads.sides) * width * width
    dense = network.dense_weights(fields, reads.numbers, reads.tasks) + attention + projected
    listed = sum(reads.lengths) * (4 * width + network.attention) + sum(reads.vectors) + 2 * sum(reads.sides) * width
    parts = {
        "embedding table": FLOAT * sum(reads.rows + reads.bag_rows) * (width + 1),  # and row-wise Adagrad's state
        "layers": FLOAT * STATES * dense,
        "distillation": FLOAT * STATES * more,
        "one batch": FLOAT * batch_size * (network.row_width(fields, reads.numbers) + listed + wider),
    }
    needs, has = sum(parts.values()), memory()
    if needs <= has:
        return
    family = type(network).__name__
    remedies = {
        "embedding table": ("network", f"a smaller {family}.embedding, or fewer Column.rows or Bag.rows"),
        "layers": ("network", f"a smaller {family}.hidden, or fewer layers and experts"),
        "distillation": ("distillation", f"a smaller hidden of {type(distillation).__name__}"),
        "one batch": ("training", "a smaller Training.batch_size, or a shorter HistoryView.length or Bag.length"),
    }
    if needs - parts["one batch"] > has:  # weights alone: a smaller batch would not help
        del parts["one batch"]
    field, remedy = remedies[max(parts, key=lambda name: parts[name])]
    listing = ", ".join(f"{name} {_bytes(size)}" for name, size in parts.items() if size)
    raise DeclarationError(
        f"{where}.{field}: needs {_bytes(sum(parts.values()))} ({listing}), and this machine has {_bytes(has)}: "
        f"use {remedy}"
    )


def check_simulation(simulation: Simulation, days: float, slice_days: float, tasks: int) -> None:
    """Refuse a world that is not held by the machine's memory.

    Args:
        days: of the whole stream; of a growing one, one.

    Raises:
        DeclarationError: naming what is largest.
    """
    each = 8 * (2 + tasks + 2 * simulation.taste)  # bytes of an entity's traits
    parts = {
        "users": each * simulation.users,
        "items": each * simulation.items,
        "new_users_per_day": each * int(simulation.new_users_per_day * days),
        "new_items_per_day": each * int(simulation.new_items_per_day * days),
        "impressions_per_day": 2 * each * int(simulation.impressions_per_day * slice_days),
    }
    needs, has = sum(parts.values()), memory()
    if needs > has:
        largest = max(parts, key=lambda name: parts[name])
        raise DeclarationError(
            f"Simulation.{largest}: {getattr(simulation, largest)} makes a world of {_bytes(needs)}, and this machine "
            f"has {_bytes(has)}: use fewer, or a smaller taste"
        )


def _bytes(count: float) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e8 else f"{count / 1e6:,.1f} MB"
