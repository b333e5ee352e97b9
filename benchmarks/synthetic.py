"""A synthetic slice made by torch alone: skewed ids, numbers, labels that follow from both, and a teacher's logits.

Belongs here: rows to time a learner on, where no log and no polars are. Not here: anything that quality is read from.
"""

from dataclasses import dataclass

import torch

from models.batch import SliceTensors

COLUMNS, NUMBERS = 20, 12


@dataclass(frozen=True)
class Sizes:
    """How many rows, and how many ids over all columns; half of the ids are of the first column, halving from there.

    Args:
        numbers: numeric columns.
        table: rows of the embedding table, if more than ids.
    """

    rows: int
    ids: int
    numbers: int = NUMBERS
    table: int | None = None

    @property
    def id_columns(self) -> tuple[tuple[str, int], ...]:
        return self._columns(self.table or self.ids)

    @property
    def ids_in_use(self) -> tuple[int, ...]:
        """Of each column."""
        return tuple(count for _, count in self._columns(self.ids))

    @staticmethod
    def _columns(ids: int) -> tuple[tuple[str, int], ...]:
        return tuple((f"c{index}", max(ids >> (index + 1), 16)) for index in range(COLUMNS))

    @property
    def number_names(self) -> tuple[str, ...]:
        return tuple(f"n{index}" for index in range(self.numbers))

    @property
    def task_names(self) -> tuple[str, ...]:
        return ("click", "convert")


def synthetic_slice(sizes: Sizes, device: str, seed: int = 0) -> SliceTensors:
    """A resident slice; ids follow a power law, as users and items do."""
    draws = torch.Generator(device=device).manual_seed(seed)
    uniform = torch.rand(sizes.rows, COLUMNS, generator=draws, device=device)
    counts = torch.tensor(sizes.ids_in_use, device=device)
    ids = (uniform.square() * uniform * counts).long()  # density ~ rank^(-2/3)
    numbers = torch.randn(sizes.rows, sizes.numbers, generator=draws, device=device)
    signal = torch.sin(ids[:, 3:9].float()).sum(dim=1, keepdim=True) + numbers[:, :1].sum(dim=1, keepdim=True) - 1
    tasks = torch.cat([signal, signal - 2], dim=1)
    return SliceTensors(
        ids=ids,
        numbers=numbers,
        labels=torch.bernoulli(tasks.sigmoid(), generator=draws),
        id_names=tuple(name for name, _ in sizes.id_columns),
        number_names=sizes.number_names,
        task_names=sizes.task_names,
        teachers={"large": tasks + 0.5 * torch.randn(tasks.shape, generator=draws, device=device)},
    )
