"""Labels: outcomes joined to impressions inside each task's attribution window.

Belongs here: the join, and what is counted apart. Not here: reading or writing slices (assets/stream.py).
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from exfm.log_columns import Task
from exfm.stream import Stream
from pipeline.transforms.quarantine import ORPHAN, WITHDRAWN


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


@dataclass(frozen=True)
class Hits:
    """What outcomes make of their impressions.

    Args:
        rows: by task, the impressions with an outcome in its window: their rows, ascending, each once.
        late, early, duplicates: outcomes that made no label, as ``LabelJoin`` has them.
    """

    rows: Mapping[str, "np.ndarray[Any, Any]"]
    late: int
    early: int
    duplicates: int

    @classmethod
    def of(cls, outcomes: pl.DataFrame, stream: Stream, as_of: datetime) -> "Hits":
        """Those of outcomes that were known at a moment.

        Args:
            outcomes: ``task``, ``outcome_timestamp``, and of their impression ``event_timestamp`` and ``row``.
        """
        rows, late, early, duplicates = {}, 0, 0, 0
        age = pl.col("outcome_timestamp") - pl.col("event_timestamp")
        for task in stream.tasks:
            known = outcomes.lazy().filter(pl.col("task") == task.name, pl.col("outcome_timestamp") <= as_of)
            told = known.select("row", before=age < timedelta(0), after=age > task.window).collect()
            inside = told.filter(~(pl.col("before") | pl.col("after")))["row"]
            rows[task.name] = inside.unique().sort().to_numpy()
            late, early = late + int(told["after"].sum()), early + int(told["before"].sum())
            duplicates += len(inside) - len(rows[task.name])
        return cls(rows, late, early, duplicates)

    def labels(self, task: str, start: int, rows: int) -> pl.Series:
        """1 where an outcome of a task came in its window, else 0, of so many rows from ``start`` on."""
        mine = self.rows[task]
        begin, end = np.searchsorted(mine, [start, start + rows])
        values = np.zeros(rows, np.int8)
        values[mine[begin:end] - start] = 1
        return pl.Series(task, values)


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
            parts: impressions, in the order of their rows.
            outcomes: as ``Hits.of`` has them, of all parts: of the slice's ``row``.
        """
        hits, row = Hits.of(outcomes, self.stream, self.as_of), 0
        self._counts.update(late=hits.late, early=hits.early, duplicates=hits.duplicates)
        for part in parts:
            labels = _labelled(part, hits, row, self.stream, self.as_of, self.unknown)
            row += part.height
            for task in self.stream.task_names:
                open_ = labels[task].null_count()
                self._counts.update({f"known/{task}": part.height - open_, f"open/{task}": open_})
                self._sums.update({task: labels[task].sum()})
            yield labels

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
    shown = impressions.select("impression_id", "event_timestamp").with_row_index("row")
    hits = Hits.of(outcomes.join(shown, on="impression_id"), stream, as_of)
    frame = _labelled(impressions, hits, 0, stream, as_of, unknown)
    return LabelJoin(frame, hits.late, hits.early, hits.duplicates)


def _labelled(
    impressions: pl.DataFrame,
    hits: Hits,
    row: int,
    stream: Stream,
    as_of: datetime,
    unknown: Sequence[tuple[datetime, datetime]],
) -> pl.DataFrame:
    """The labels of impressions of which the first is ``row``."""
    labels: list[pl.Expr] = []
    for task in stream.tasks:
        shown, window_end = pl.col("event_timestamp"), pl.col("event_timestamp") + task.window
        closed = window_end <= as_of
        if task.label is not None:
            labels.append(pl.when(closed).then(logged_label(task)).alias(task.name))
            continue
        for start, end in unknown:
            closed &= (shown >= end) | (window_end < start)
        labels.append(pl.when(closed).then(hits.labels(task.name, row, impressions.height)).alias(task.name))
    weight = [] if stream.weight is None else [stream.weight]
    closed_at = pl.col("event_timestamp") + stream.longest_window
    return impressions.select("impression_id", "event_timestamp", *labels, closed_at.alias("closed_at"), *weight)


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


def part_orphans(
    outcomes: pl.DataFrame, is_known: pl.Series, gone: pl.DataFrame | None = None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Outcomes of known impressions, and the others with the reason, each in their order.

    Args:
        is_known: of each, whether an impression that it may still belong to has its id.
        gone: ``impression_id`` of those that were withdrawn.
    """
    withdrawn = gone["impression_id"] if gone is not None else pl.Series(dtype=pl.Int64)
    reason = (
        pl.when(pl.col("impression_id").is_in(withdrawn.implode()))
        .then(pl.lit(f"{WITHDRAWN}: its impression was"))
        .otherwise(pl.lit(f"{ORPHAN}: no impression of this id within the attribution window"))
    )
    return outcomes.filter(is_known), outcomes.filter(~is_known).with_columns(reason=reason)
