"""What a checkpoint changed on top of another: the rows of the embedding table that it touched, and all else whole.

Belongs here: finding and applying it. Not here: files (checkpoint.py), what a state holds (state.py).

A slice touches few rows of a large table, and every dense weight. Rows are compared by their bits, so what is put
together again is what was there, down to the sign of a zero.
"""

import torch
from torch import Tensor

ROWS = "table.rows"  # indices of the rows that changed, of all tensors of the table alike
TABLE = "table."
MOST = 0.5  # share of a whole state from which on changes are not worth a second file
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}

State = dict[str, Tensor]


def changes(before: State, after: State) -> State | None:
    """What turns one state into the other; ``None`` where that is most of it, or the tables are not the same size.

    Args:
        before: its table is enough.

    Returns:
        the rows of ``after``'s table that changed, their indices as ``table.rows`` (int64), and every other tensor.
    """
    mine = {name: value for name, value in after.items() if name.startswith(TABLE)}
    if not mine or any(name not in before or before[name].shape != value.shape for name, value in mine.items()):
        return None
    touched = torch.zeros(len(next(iter(mine.values()))), dtype=torch.bool)
    for name, value in mine.items():
        touched |= _differ(before[name], value)
    rows = touched.nonzero().flatten()
    found = {name: value[rows] if name in mine else value for name, value in after.items()} | {ROWS: rows}
    return found if _size(found) <= MOST * _size(after) else None


def table_of(state: State) -> State:
    """A copy of the table alone, on the host: what ``changes`` compares with."""
    return {name: value.detach().cpu().clone() for name, value in state.items() if name.startswith(TABLE)}


def applied(before: State, changed: State) -> State:
    """The state that ``changes`` was made of."""
    rows = changed[ROWS]
    after = {name: value for name, value in changed.items() if name != ROWS}
    for name, value in changed.items():
        if name.startswith(TABLE) and name != ROWS:
            after[name] = before[name].clone()
            after[name][rows] = value
    return after


def _differ(before: Tensor, after: Tensor) -> Tensor:
    """Which rows have other bits."""
    bits = _BITS[after.element_size()]
    differ = before.contiguous().view(bits) != after.detach().cpu().contiguous().view(bits)
    return differ if differ.dim() == 1 else differ.flatten(1).any(dim=1)


def _size(state: State) -> int:
    return sum(value.nbytes for value in state.values())
