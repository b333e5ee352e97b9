"""Weights that a walk needs and retention dropped: which stored checkpoints are trained once more on the way.

Belongs here: looking ahead over a walk's slices, before anything trains. Not here: training
(joint_training.py), dropping (checkpoint_store.py).

A student whose declaration changed begins anew, and is judged against a control that did not change: its checkpoints
are all stored, but only the last of them with weights. They are made again from the same slices under the same
versions, beside the student, as they were made at first.
"""

from collections.abc import Callable, Sequence

from pipeline.registry.checkpoint_store import asset_of
from pipeline.registry.incremental_model import IncrementalModel
from pipeline.registry.lineage import Data
from pipeline.tables import DataError


def first_new(model: IncrementalModel, data: Callable[[int], Data], indices: Sequence[int]) -> int:
    """The first slice whose checkpoint is not stored as it would now be made; one after the last if all are.

    Args:
        data: the digests of what is read of a slice, by its index.

    Raises:
        DataError, CheckpointError: as ``IncrementalModel.holds``.
    """
    for index in indices:
        if not model.holds(index, data(index)):
            return index
    return indices[-1] + 1


def again(model: IncrementalModel, new: int, needed: int, indices: Sequence[int], by: str | None) -> frozenset[int]:
    """Slices whose stored checkpoints must be trained again, so that their weights are there from ``needed`` on.

    Args:
        new: from this slice on all are trained anyway.
        needed: first slice whose weights are needed; below 0 an untrained model will do.
        by: who needs them, if the chain itself is not asked for.

    Raises:
        DataError: if that takes slices or assets that were not asked for.
    """
    stream = model.stream

    def dropped(index: int) -> bool:
        slice_ = stream.slice_at(index)
        return model.checkpoints.has(slice_) and not model.checkpoints.has_weights(slice_)

    clean = range(max(needed, 0), min(new, indices[-1]))  # nothing in this walk continues its last slice
    start = next((index for index in clean if dropped(index)), None)
    if start is None:
        return frozenset()
    message = f"{model.checkpoints.name}: the weights of slice {stream.slice_at(start).key} were dropped by retention"
    while start > 0 and dropped(start - 1):
        start -= 1
    if by is not None:
        since = stream.slice_at(start).key
        asset = asset_of(model.checkpoints.name)
        raise DataError(f"{message}, and {by} needs them: materialise {asset} along with it, from slice {since} on")
    if start < indices[0]:
        raise DataError(f"{message}: materialise from slice {stream.slice_at(start).key} on")
    return frozenset(index for index in range(start, min(new, indices[-1] + 1)) if dropped(index))
