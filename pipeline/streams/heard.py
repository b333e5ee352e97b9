"""Whether every declared task has a positive label: from one without, no model can learn, so the run stops.

Belongs here: looking through stored labels for a positive one, and the names that the log has instead.
Not here: joining labels (transforms/labels.py).
"""

from collections import Counter
from collections.abc import Sequence

import polars as pl

from exfm.stream import Slice, Stream
from pipeline.streams.accounts import unknown_names
from pipeline.tables import DataError, SliceTable

# Closed labels, none of them positive, from which on the run stops: where nothing more can come or the log has outcomes
# of other names, and where the task may just be rare.
LEAST_SURE, LEAST_RARE = 100, 10_000


def check_heard(
    stream: Stream, labels: SliceTable, outcomes: SliceTable, refused: SliceTable, made: Sequence[Slice]
) -> None:
    """Stop if a declared task has no positive label in any stored slice, of enough.

    Slices are looked through from the newest, and no further than to the first positive label of each task.

    Args:
        outcomes: of this stream.
        refused: the outcomes' quarantine.
        made: the slices that this run made; looked through first.

    Raises:
        DataError: naming the task, and the names that the log's outcomes have.
    """
    stored = labels.stored(stream)
    others = [slice_ for slice_ in reversed(stored) if slice_ not in set(made)]
    silent = {task: 0 for task in stream.task_names}
    for slice_ in [*made, *others]:
        counts = labels.read([slice_], columns=list(silent)).select(
            *(pl.col(task).count().alias(f"known/{task}") for task in silent),
            *(pl.col(task).sum().alias(f"positive/{task}") for task in silent),
        )
        totals = counts.row(0, named=True)
        silent = {
            task: known + totals[f"known/{task}"] for task, known in silent.items() if not totals[f"positive/{task}"]
        }
        if not silent:
            return
    if max(silent.values()) < LEAST_SURE:
        return
    names = _refused_names(refused, stored)
    complete = stored == stream.all_slices
    for task, known in silent.items():
        if known >= (LEAST_SURE if complete or names else LEAST_RARE):
            label, above = stream.task(task).label, stream.task(task).above
            lacks = f"no value above {above or 0:g}" if stream.task(task).reads_values else "no 1"
            told = f"its column {label!r} of the impressions has {lacks}" if label is not None else ""
            why = told or _why(task, names, outcomes, stored)
            raise DataError(f"task {task!r}: none of {known:,} closed labels is positive: {why}")


def _refused_names(refused: SliceTable, slices: Sequence[Slice]) -> Counter[str]:
    names: Counter[str] = Counter()
    for slice_ in slices:
        if refused.has(slice_):
            names.update(unknown_names(refused.read([slice_], columns=["reason", "task"])))
    return names


def _why(task: str, names: Counter[str], outcomes: SliceTable, slices: Sequence[Slice]) -> str:
    with_outcomes = [slice_ for slice_ in slices if outcomes.has(slice_)]
    arrived = sum(int((outcomes.read([slice_], columns=["task"])["task"] == task).sum()) for slice_ in with_outcomes)
    if arrived:
        return (
            f"its {arrived:,} outcomes came after their window (or before their impression): check Task.window, and "
            "that both clocks are read in their zone"
        )
    if names:
        listed = ", ".join(f"{name!r} ({count:,})" for name, count in names.most_common(5))
        return f"the log has outcomes of other names, {listed}: write Task.name as the log does"
    return "the log has no outcome of this name: write them into outcomes.task, or take the task out of Stream.tasks"
