"""The embedding table as a release keeps it: float32, bfloat16, or int8 with a scale a row.

Belongs here: rounding a table to what is kept, and making float32 of it again. Not here: files (weights.py), reading
single rows of one (serving/tables.py).
"""

import torch
from torch import Tensor

from exfm.serving import BFLOAT16, FLOAT32, INT8
from models.changes import State
from models.learner import Learner

TABLE, SCALE = "table.weight", "table.scale"
LARGEST = 127  # of int8, on both sides of 0


def kept(state: State, kind: str) -> State:
    """A state with its table as a release keeps it.

    Of int8, row r is s_r q_r with s_r = max |r| / 127: no number is off by more than half of its row's s_r.

    Shape:
        ``table.weight`` (R, E) float32 -> the same in bfloat16, or in int8 beside ``table.scale`` (R,) float32
    """
    if kind == FLOAT32:
        return state
    table = state[TABLE]
    if kind == BFLOAT16:
        return {**state, TABLE: table.to(torch.bfloat16)}
    assert kind == INT8, kind
    scale = table.abs().amax(dim=1) / LARGEST
    # A row that is all zeros, or so small that its scale is none, is zero.
    rounded = (table / scale.clamp(min=torch.finfo(torch.float32).tiny).unsqueeze(1)).round()
    return {**state, TABLE: rounded.clamp(-LARGEST, LARGEST).to(torch.int8), SCALE: scale}


def whole(state: State) -> State:
    """A state with its table in float32, however it was kept."""
    table = state.get(TABLE)
    if table is None or table.dtype == torch.float32:
        return state
    rest = {name: value for name, value in state.items() if name != SCALE}
    numbers: Tensor = table.float()
    return {**rest, TABLE: numbers * state[SCALE].unsqueeze(1) if SCALE in state else numbers}


@torch.no_grad()
def as_served(learner: Learner, kind: str, member: int = 0) -> Learner:
    """The learner with the numbers that a release of it would have; its table is changed in place."""
    if kind != FLOAT32:
        mine = learner.table.state(member)["weight"]
        mine.copy_(whole(kept({TABLE: mine}, kind))[TABLE])
    return learner
