"""Numbers, vectors and bags of the simulated log: each says something of the item, as a catalogue would.

Belongs here: their values, labels and requests. Not here: the world that they tell of (world.py). What happens does not
depend on them, and their randomness is their own: a log with them has the same events as one without.
"""

from typing import Any

import numpy as np

from exfm.inputs import Bag, Number, Vector
from exfm.log_columns import Request, Task
from exfm.stream import Slice
from pipeline.streams.world import INPUTS, ITEMS, Floats, Ints, World, generator

NULLS = 0.05  # share of values that are missing
NOISE = 0.3  # standard deviation, of traits that have 1
ABOVE_CEILING = 1.25  # values of a task with a ceiling reach so many of it


def log_inputs(world: World, slice_: Slice, items: Ints) -> dict[str, Any]:
    """The declared columns of a slice's impressions, by name.

    Args:
        items: (N,) that were shown.
    """
    declared = world.stream.logged_inputs
    missing = {each.name: _missing(world, slice_, len(items), number) for number, each in enumerate(declared)}
    missing |= {side: missing[bag.name] for bag in world.stream.bags for side in bag.beside}
    columns = {each.name: _values(world, slice_, items, number, each) for number, each in enumerate(declared)}
    return {
        name: [None if gone else value for gone, value in zip(missing[name], values, strict=True)]
        for name, values in columns.items()
    }


def _missing(world: World, slice_: Slice, rows: int, number: int) -> np.ndarray:
    random = generator(world.simulation.seed, INPUTS, slice_.index, number)
    return random.uniform(size=rows) < NULLS


def _values(world: World, slice_: Slice, items: Ints, number: int, declared: Number | Vector | Bag) -> list[Any]:
    """Of an item's quality a number (log-normal, as prices are); of its taste a vector, or tags; some are missing."""
    tasks, taste = len(world.stream.tasks), world.simulation.taste
    traits = world.traits(ITEMS, items)
    quality, liked = traits[:, 2], traits[:, 2 + tasks : 2 + tasks + taste]
    random = generator(world.simulation.seed, INPUTS, slice_.index, number)
    random.uniform(size=len(items))  # which of them are missing
    if isinstance(declared, Number):
        values: list[Any] = np.exp(quality + NOISE * random.standard_normal(len(items))).tolist()
    elif isinstance(declared, Vector):
        values = _projected(world, liked, declared.width, number).tolist()
    else:
        strongest = np.argsort(-np.abs(liked), axis=1)[:, :3]
        tags = 2 * strongest + (np.take_along_axis(liked, strongest, axis=1) > 0)
        dtypes = {column.name: column.dtype for column in world.stream.id_columns}
        is_int = (declared.dtype if declared.of is None else dtypes.get(declared.of, declared.dtype)) is int
        values = tags.tolist() if is_int else [[f"tag_{tag}" for tag in row] for row in tags]
    return values


def labels_told(world: World, slice_: Slice, happened: np.ndarray) -> dict[str, Any]:
    """The columns that hold labels: 0 and 1, or values that are above their task's border where it happened.

    Args:
        happened: (N, tasks) bool.
    """
    tasks, columns = world.stream.tasks, dict[str, Any]()
    for number, task in enumerate(tasks):
        if task.label is None or task.label in columns:
            continue  # of two tasks of one value the first is told
        if not task.reads_values:
            columns[task.label] = happened[:, number].astype(np.int8)
            continue
        beside = generator(world.simulation.seed, INPUTS, slice_.index, len(world.stream.logged_inputs) + number)
        unit = beside.uniform(size=len(happened))
        if task.ceiling is not None:  # half of it on average, and sometimes more than all
            columns[task.label] = happened[:, number] * unit * task.ceiling * ABOVE_CEILING
            continue
        assert task.above is not None
        width = abs(task.above) + 1
        columns[task.label] = task.above + width * np.where(happened[:, number], unit + 1e-3, -unit)
    return columns


def share_where_it_happened(task: Task) -> float:
    """The label that is expected where a task's outcome happened: 1, or of values up to 1.25 ceilings cut at one."""
    return 1.0 if task.ceiling is None else 1 - 1 / (2 * ABOVE_CEILING)


def requests(request: Request, slice_: Slice, users: Ints, at: Floats) -> list[Any]:
    """What a user sees in an hour is one request.

    Args:
        users: (N,) ids.
        at: (N,) microseconds since the slice's start.
    """
    hours = int(slice_.start.timestamp()) // 3600 + (at // 3_600e6).astype(np.int64)
    if request.dtype is int:
        numbers: list[int] = (hours * 2**32 + users).tolist()
        return numbers
    return [f"{user}-{hour}" for user, hour in zip(users, hours, strict=True)]


def _projected(world: World, liked: Floats, width: int, number: int) -> Floats:
    """A random view of taste, the same in every slice."""
    drawn = generator(world.simulation.seed, INPUTS, number).standard_normal((liked.shape[1], width))
    projected: Floats = liked @ drawn / np.sqrt(liked.shape[1])
    return projected
