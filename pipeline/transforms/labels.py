"""Labels: outcomes joined to impressions inside each task's attribution window.

Belongs here: the join, and what is counted apart. Not here: reading or writing slices (assets/stream.py).
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from exfm.log_columns import Task
from exfm.stream import Stream
from pipeline.transforms.quarantine import ORPHAN, WITHDRAWN

LAST = 2**63 - 1  # microseconds since 1970 that no row has


@dataclass(frozen=True)
class LabelJoin:
    """Labels, and the outcomes of these impressions that made none.

    Args:
        frame: one row an impression, in its order.
        late: outcomes after their task's window.
        early: outcomes before their impression.
        duplicates: further outcomes of the same impression and task inside the window.
    """

    frame: pl.DataFrame
    late: int
    early: int
    duplicates: int


@dataclass
class LabelledSlice:
    """The labels of a slice, part by part, and what is counted of them.

    Args:
        as_of, unknown: as ``join_labels`` has them.
    """

    stream: Stream
    as_of: datetime
    unknown: Sequence[tuple[datetime, datetime]] = ()
    _counts: Counter[str] = field(default_factory=Counter)
    _sums: Counter[str] = field(default_factory=Counter)

    def joined(self, parts: Iterable[pl.DataFrame], outcomes: pl.DataFrame) -> Iterator[pl.DataFrame]:
        """The labels of each part.

        Args:
            parts: impressions, in the order of their times.
            outcomes: of all of them, with the ``event_timestamp`` of their impression, in the order of that.
        """
        shown = outcomes["event_timestamp"].to_physical().to_numpy()
        for part in parts:
            times = part["event_timestamp"].to_physical().to_numpy()
            begin = np.searchsorted(shown, times.min(initial=LAST), side="left")
            stop = np.searchsorted(shown, times.max(initial=-LAST), side="right")
            mine = outcomes[int(begin) : int(stop)].drop("event_timestamp")
            labels = join_labels(part, mine, self.stream, self.as_of, self.unknown)
            self._counts.update(late=labels.late, early=labels.early, duplicates=labels.duplicates)
            for task in self.stream.task_names:
                known = labels.frame[task].drop_nulls()
                self._counts.update({f"known/{task}": len(known), f"open/{task}": part.height - len(known)})
                self._sums.update({task: known.sum()})
            yield labels.frame

    def told(self) -> dict[str, float]:
        """Outcomes that made no label, the rate of each task, and its labels that are not known yet."""
        tasks = self.stream.task_names
        rates = {f"rate/{task}": self._sums[task] / max(self._counts[f"known/{task}"], 1) for task in tasks}
        open_ = {f"open/{task}": self._counts[f"open/{task}"] for task in tasks}
        return {**{name: self._counts[name] for name in ("late", "early", "duplicates")}, **rates, **open_}


def columns_of_labels(stream: Stream) -> list[str]:
    """What ``join_labels`` reads of the impressions."""
    weight = [] if stream.weight is None else [stream.weight]
    return list(dict.fromkeys([
        "impression_id", "event_timestamp", *(str(task.label) for task in stream.labelled_tasks), *weight
    ]))  # fmt: skip


def join_labels(
    impressions: pl.DataFrame,
    outcomes: pl.DataFrame,
    stream: Stream,
    as_of: datetime,
    unknown: Sequence[tuple[datetime, datetime]] = (),
) -> LabelJoin:
    """One nullable label a task for each impression.

    1 if an outcome of the task came within its window (the end included), 0 if the window closed without one, null
    while it is open at ``as_of``: also where an outcome came already, or open windows would show positives alone. For
    the same reason null wherever part of the window is unknown.

    Args:
        impressions: ``impression_id``, ``event_timestamp``, labels that the log brings; one row each.
        outcomes: ``impression_id``, ``task``, ``outcome_timestamp``; may be late, repeated, or of other impressions.
        as_of: what is known; outcomes after it do not exist yet.
        unknown: start and end (exclusive) of stretches whose outcomes were withdrawn.

    Returns:
        ``impression_id``, ``event_timestamp``, one Int8 column a task (Float32 where it has a ceiling), ``closed_at``
        (the end of the last window), the weight where one is declared.
    """
    windows = pl.DataFrame(
        {"task": stream.task_names, "window": [task.window for task in stream.tasks]},
        schema={"task": pl.String, "window": pl.Duration("us")},
    )
    known = (
        outcomes.filter(pl.col("outcome_timestamp") <= as_of)
        .join(impressions.select("impression_id", "event_timestamp"), on="impression_id")
        .join(windows, on="task")
        .with_columns(age=pl.col("outcome_timestamp") - pl.col("event_timestamp"))
    )
    inside = known.filter(pl.col("age") >= timedelta(0), pl.col("age") <= pl.col("window"))
    distinct = inside.unique(["impression_id", "task"])
    labels = impressions.select("impression_id", "event_timestamp")
    for task in stream.tasks:
        if task.label is not None:
            closed = pl.col("event_timestamp") + task.window <= as_of
            logged = impressions.select(logged_label(task)).to_series()
            labels = labels.with_columns(logged).with_columns(pl.when(closed).then(pl.col(task.name)))
            continue
        hit = distinct.filter(pl.col("task") == task.name).select("impression_id", pl.lit(1, pl.Int8).alias(task.name))
        shown, window_end = pl.col("event_timestamp"), pl.col("event_timestamp") + task.window
        closed = window_end <= as_of
        for start, end in unknown:
            closed &= (shown >= end) | (window_end < start)
        labels = labels.join(hit, on="impression_id", how="left", maintain_order="left").with_columns(
            pl.when(closed).then(pl.col(task.name).fill_null(0)).otherwise(None).cast(pl.Int8).alias(task.name)
        )
    return LabelJoin(
        frame=_weighted(labels, impressions, stream),
        late=known.filter(pl.col("age") > pl.col("window")).height,
        early=known.filter(pl.col("age") < timedelta(0)).height,
        duplicates=inside.height - distinct.height,
    )


def _weighted(labels: pl.DataFrame, impressions: pl.DataFrame, stream: Stream) -> pl.DataFrame:
    """With ``closed_at``, and the weight of each row where the log has one."""
    closed = labels.with_columns(closed_at=pl.col("event_timestamp") + stream.longest_window)
    return closed if stream.weight is None else closed.with_columns(impressions[stream.weight])


def label_type(task: Task) -> pl.DataType:
    """Of a stored label: 0 and 1, or the share of a ceiling."""
    return pl.Int8() if task.ceiling is None else pl.Float32()


def logged_label(task: Task) -> pl.Expr:
    """The label that a column of the impressions tells of, as ``label_type``: null where it is not known."""
    column = pl.col(str(task.label))
    if task.ceiling is not None:
        column = column.fill_nan(None).clip(0.0, task.ceiling) / task.ceiling
    if task.above is not None:
        column = column.fill_nan(None) > task.above
    return column.cast(label_type(task)).alias(task.name)


def with_labelled(stream: Stream, impressions: pl.LazyFrame, outcomes: pl.LazyFrame) -> pl.LazyFrame:
    """Outcomes, and those that labels of the impressions tell of (of values: above 0): known when their window ends.

    Args:
        impressions: with the columns of labels.
    """
    told = [
        impressions.filter(logged_label(task) > 0).select(
            "impression_id", task=pl.lit(task.name), outcome_timestamp=pl.col("event_timestamp") + task.window
        )
        for task in stream.labelled_tasks
    ]
    return pl.concat([outcomes.select("impression_id", "task", "outcome_timestamp"), *told]) if told else outcomes


def find_orphans(outcomes: pl.DataFrame, known: pl.DataFrame, gone: pl.DataFrame | None = None) -> pl.DataFrame:
    """Outcomes whose impression is not among those known, with the reason.

    Args:
        known: ``impression_id`` of every impression that an outcome may still belong to.
        gone: of those that were withdrawn.
    """
    orphans = outcomes.join(
        known.select("impression_id").unique(), on="impression_id", how="anti", maintain_order="left"
    )
    withdrawn = gone["impression_id"] if gone is not None else pl.Series(dtype=pl.Int64)
    reason = (
        pl.when(pl.col("impression_id").is_in(withdrawn.implode()))
        .then(pl.lit(f"{WITHDRAWN}: its impression was"))
        .otherwise(pl.lit(f"{ORPHAN}: no impression of this id within the attribution window"))
    )
    return orphans.with_columns(reason=reason)
