"""Events: what a view counts or lists, whichever table of the log tells of it.

Belongs here: who met what, and from when it counts. Not here: what views make of it (aggregates.py, histories.py), how
much of it is read at once (slices/events_aside.py).
"""

from collections.abc import Mapping
from datetime import timedelta

import polars as pl

from exfm.feature_views import IMPRESSIONS, INTERACTIONS
from exfm.history_views import AT
from exfm.log_columns import Task
from exfm.stream import Stream
from pipeline.transforms.labels import logged_label

Events = Mapping[str, pl.LazyFrame]  # by source: the columns that a view reads, and ``at``


def events_of(
    source: str,
    columns: list[str],
    stream: Stream,
    impressions: pl.LazyFrame,
    outcomes: pl.LazyFrame,
    interactions: pl.LazyFrame,
) -> pl.LazyFrame:
    """The events of one source.

    Args:
        source: ``impressions``, ``interactions``, or a task: the first outcome of each impression inside the task's
            window, from when it is known; of a task with a label (of values: above 0) that is when its window ends.
        columns: of the log, what is read of each event beside its time.
        impressions: ``impression_id``, ``event_timestamp``, the columns, and labels that the log brings.
        outcomes: ``impression_id``, ``task``, ``outcome_timestamp``; may be late, repeated, or of other impressions.
        interactions: ``event_timestamp`` and the columns.

    Returns:
        The columns, and ``at``.
    """
    if source == IMPRESSIONS:
        return impressions.select(*columns, at="event_timestamp")
    if source == INTERACTIONS:
        return interactions.select(*columns, at="event_timestamp")
    task = stream.task(source)
    if task.label is not None:
        liked = impressions.filter(logged_label(task) > 0)
        return liked.select(*columns, at=pl.col("event_timestamp") + task.window)
    return _first_outcomes(task, columns, impressions, outcomes)


def _first_outcomes(task: Task, columns: list[str], impressions: pl.LazyFrame, outcomes: pl.LazyFrame) -> pl.LazyFrame:
    age = pl.col("outcome_timestamp") - pl.col("event_timestamp")
    inside = (age >= timedelta(0)) & (age <= task.window)
    shown = impressions.select("impression_id", "event_timestamp", *columns)
    of_task = outcomes.filter(pl.col("task") == task.name)
    happened = of_task.join(shown, on="impression_id", build_side="prefer_left").filter(inside)
    return happened.group_by("impression_id", *columns).agg(at=pl.col("outcome_timestamp").min()).select(*columns, AT)
