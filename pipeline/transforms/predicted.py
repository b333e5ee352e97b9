"""Teacher features: aggregates of earlier predictions by entity, as rows that change when the past does.

Belongs here: the aggregation, and what may enter it. Not here: which slices are read (assets/predicted.py).
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import polars as pl

from exfm.columns import ScoreColumns
from exfm.feature_views import window_name
from exfm.prediction_views import PredictionView
from exfm.stream import Slice, Stream

_LAST_AT = "last_at"


def bucket(view: PredictionView, impressions: pl.DataFrame, predictions: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """One slice's predictions by entity: ``count``, ``<task>_sum``, ``<task>_last``, ``last_at``.

    Args:
        impressions: ``impression_id``, ``event_timestamp`` and the entities.
        predictions: ``impression_id``, ``trained_until`` and ``<task>_logit``, at most one row an impression.

    Returns:
        the bucket, and how many predictions a leak rule kept out: those by a teacher that trained on the impression or
        on anything after it.
    """
    keys = list(view.entities)
    shown = impressions.select("impression_id", "event_timestamp", *keys)
    logits = [ScoreColumns(task).logit for task in view.tasks]
    joined = shown.join(predictions.select("impression_id", "trained_until", *logits), on="impression_id")
    clean = joined.filter(pl.col("trained_until") < pl.col("event_timestamp"))
    known = clean.filter(*(pl.col(name).is_not_null() for name in keys))
    newest = pl.col("event_timestamp", "impression_id")
    rows = (
        known.sort(newest)
        .group_by(keys, maintain_order=True)
        .agg(
            pl.len().cast(pl.Int64).alias("count"),
            pl.col("event_timestamp").last().alias(_LAST_AT),
            *(pl.col(ScoreColumns(task).logit).cast(pl.Float64).sum().alias(f"{task}_sum") for task in view.tasks),
            *(pl.col(ScoreColumns(task).logit).last().alias(f"{task}_last") for task in view.tasks),
        )
    )
    return rows, joined.height - clean.height


def together(view: PredictionView, buckets: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """The bucket of a slice from those of its parts, in the order of time."""
    if len(buckets) == 1:
        return buckets[0]
    sums, lasts = (
        ["count", *(f"{task}_sum" for task in view.tasks)],
        [_LAST_AT, *(f"{task}_last" for task in view.tasks)],
    )
    by_entity = pl.concat(buckets).group_by(view.entities, maintain_order=True)
    added = by_entity.agg(*(pl.col(name).sum() for name in sums), *(pl.col(name).last() for name in lasts))
    return added.select(buckets[0].columns)


def needed(view: PredictionView, stream: Stream, after: timedelta, stamp: datetime) -> list[Slice]:
    """The slices whose buckets a row stamped ``stamp`` reads, oldest first: known by then, or just gone.

    Args:
        after: how long after a slice's end its predictions are known.
    """
    oldest = stamp - max(view.windows) - stream.slice_length - stream.slack
    return [slice_ for slice_ in stream.slices(max(oldest, stream.first_slice), stamp) if slice_.end + after <= stamp]


def predicted(
    view: PredictionView, stream: Stream, after: timedelta, buckets: Mapping[str, pl.DataFrame], stamp: datetime
) -> pl.DataFrame:
    """Rows of a view stamped at one slice's end: one for each entity whose values may have changed since the last.

    A window [stamp - window, stamp) holds whole slices, of which only those count that were known at the stamp. When
    all has left, a row of zero counts and nulls says so.

    Args:
        buckets: by the key of each slice that ``needed`` names.

    Returns:
        entities, ``event_timestamp`` (the stamp), ``created_timestamp`` (+ delay), counts (Int64), the rest Float32;
        by entities.
    """
    keys, now, parts = list(view.entities), stream.index_at(stamp), []
    reach = {window: window // stream.slice_length for window in view.windows}
    before = stream.slice_at(now - 1).start
    for slice_ in needed(view, stream, after, stamp):
        entered = slice_.end + after > before
        left = any(slice_.index == now - slices - 1 for slices in reach.values())
        parts.append(buckets[slice_.key].with_columns(slice=pl.lit(slice_.index), changed=pl.lit(entered or left)))
    if not parts:
        return empty(view, stream)
    inside = {window: pl.col("slice") >= now - slices for window, slices in reach.items()}
    longest = inside[max(view.windows)]
    age = (pl.lit(stamp) - pl.col(_LAST_AT).filter(longest).max()).dt.total_seconds() / 3600
    order = pl.col(_LAST_AT).filter(longest)
    newest = {task: pl.col(f"{task}_last").filter(longest).sort_by(order) for task in view.tasks}
    counts = {window: pl.col("count").filter(inside[window]).sum() for window in view.windows}
    rows = (
        pl.concat(parts)
        .group_by(keys)
        .agg(
            pl.col("changed").any(),
            *(counts[window].cast(pl.Int64).alias(f"count_{window_name(window)}") for window in view.windows),
            *(
                pl.when(counts[window] > 0)
                .then(pl.col(f"{task}_sum").filter(inside[window]).sum() / counts[window])
                .cast(pl.Float32)
                .alias(f"{task}_mean_{window_name(window)}")
                for task in view.tasks
                for window in view.windows
            ),
            *(newest[task].last().cast(pl.Float32).alias(f"{task}_last") for task in view.tasks),
            age.cast(pl.Float32).alias("age_hours"),
        )
        .filter("changed")
    )
    moment = pl.lit(stamp, pl.Datetime("us", "UTC"))
    return rows.select(
        *keys, moment.alias("event_timestamp"), (moment + view.delay).alias("created_timestamp"), *view.features
    ).sort(keys)


def empty(view: PredictionView, stream: Stream) -> pl.DataFrame:
    """No rows, with the view's columns: before any prediction is known."""
    types = {column.name: pl.String() if column.dtype is str else pl.Int64() for column in stream.id_columns}
    return pl.DataFrame(schema=predicted_schema(view, types))


def predicted_schema(view: PredictionView, types: Mapping[str, pl.DataType]) -> dict[str, pl.DataType]:
    """The columns of a view's rows.

    Args:
        types: of the entities.
    """
    clock = pl.Datetime("us", "UTC")
    counts = dict.fromkeys(view.count_features, pl.Int64())
    numbers = dict.fromkeys(view.number_features, pl.Float32())
    keys = {name: types[name] for name in view.entities}
    return {**keys, "event_timestamp": clock, "created_timestamp": clock, **counts, **numbers}
