"""Activity features: counts and rates of the past, as rows that change when the past does.

Belongs here: the aggregation over half-open windows. Not here: which slices it reads (assets/features.py).
"""

from collections.abc import Iterator
from datetime import datetime, timedelta

import polars as pl

from exfm.feature_views import IMPRESSIONS, INTERACTIONS, FeatureView, window_name
from exfm.stream import Stream
from pipeline.transforms.stamps import Stamps


def needed_since(view: FeatureView, stream: Stream, start: datetime) -> datetime:
    """How far back impressions, outcomes and interactions must reach for rows stamped after ``start``.

    A window reaches back by its length, and an outcome in it may be of an impression one attribution window older.
    """
    tasks = [stream.task(name).window for name in (*view.counts, *view.rates) if name in stream.task_names]
    return start - max(view.windows) - stream.slack - max(tasks, default=timedelta(0))


def aggregate(
    view: FeatureView,
    stream: Stream,
    impressions: pl.LazyFrame,
    outcomes: pl.LazyFrame,
    interactions: pl.LazyFrame,
    start: datetime,
    end: datetime,
) -> pl.DataFrame:
    """Rows of a view stamped in (start, end], one for each entity and stamp at which a value may have changed.

    A row stamped s counts what happened in [s - window, s): an event at s itself is not in it, so a row may be given to
    an impression at s. An event enters at the first stamp after it and leaves each window at its own stamp; a running
    sum over entering and leaving events is exact, and the same for a range at once as for its slices one by one. When
    all has left, a row of zeros says so; ``view.ttl`` after its last row an entity has no value.

    Args:
        impressions: ``impression_id``, ``event_timestamp`` and the entities, since ``needed_since``.
        outcomes: ``impression_id``, ``task``, ``outcome_timestamp``; counted once a task, from when they are known.
        interactions: ``event_timestamp``, user, item.

    Returns:
        entities, ``event_timestamp`` (s), ``created_timestamp`` (s + delay), counts (Int64), rates (Float32);
        by stamp, then entities.
    """
    keys = list(view.entities)
    counted = _counted(view)
    sources = dict(_events(view, stream, impressions, outcomes, interactions))
    stamps = Stamps(stream, view.every, (needed_since(view, stream, start), end))
    buckets = pl.concat(
        [
            events.filter(pl.col("at") < end, *(pl.col(key).is_not_null() for key in keys))
            .group_by(*keys, stamp=stamps.number(pl.col("at")) + 1)
            .agg(pl.len().cast(pl.Int32).alias(name))
            for name, events in sources.items()
        ],
        how="diagonal",
    )
    buckets = buckets.group_by(*keys, "stamp").agg(pl.col(name).sum() for name in counted)
    moves = [
        _moves(view, counted, buckets, keys, None),
        *(_moves(view, counted, buckets, keys, w, stamps.within(w)) for w in view.windows),
    ]
    columns = [f"{name}_{window_name(window)}" for name in counted for window in view.windows]
    running = (
        pl.concat(moves, how="diagonal")
        .group_by(*keys, "stamp")
        .agg(pl.col(name).sum() for name in columns)
        .sort(*keys, "stamp")
        .with_columns(pl.col(name).cum_sum().over(keys) for name in columns)
        .filter(pl.col("stamp") > stamps.number_of(start), pl.col("stamp") <= stamps.number_of(end))
        .with_columns(stamps.time(pl.col("stamp")))
    )
    return _named(view, running).sort("event_timestamp", *keys).collect()


def _counted(view: FeatureView) -> list[str]:
    """What is counted: the declared counts, and what the rates are made of."""
    for_rates = [*view.rates, IMPRESSIONS] if view.rates else []
    return list(dict.fromkeys([*view.counts, *for_rates]))


def _events(
    view: FeatureView, stream: Stream, impressions: pl.LazyFrame, outcomes: pl.LazyFrame, interactions: pl.LazyFrame
) -> Iterator[tuple[str, pl.LazyFrame]]:
    """Each counted thing as entities and ``at``, when it counts from."""
    keys = list(view.entities)
    if IMPRESSIONS in _counted(view):
        yield IMPRESSIONS, impressions.select(*keys, at="event_timestamp")
    if INTERACTIONS in _counted(view):
        yield INTERACTIONS, interactions.select(*keys, at="event_timestamp")
    shown = impressions.select("impression_id", "event_timestamp", *keys)
    for name in _counted(view):
        if name in stream.task_names:
            age = pl.col("outcome_timestamp") - pl.col("event_timestamp")
            inside = (age >= timedelta(0)) & (age <= stream.task(name).window)
            happened = outcomes.filter(pl.col("task") == name).join(shown, on="impression_id").filter(inside)
            yield name, happened.group_by("impression_id", *keys).agg(at=pl.col("outcome_timestamp").min())


def _moves(
    view: FeatureView,
    counted: list[str],
    buckets: pl.LazyFrame,
    keys: list[str],
    leaving: timedelta | None,
    after: int = 0,
) -> pl.LazyFrame:
    """What the buckets add to all windows when they enter (``None``), or take from one when they leave it.

    Args:
        after: how many stamps later that is.
    """
    if leaving is None:
        added = [pl.col(name).alias(f"{name}_{window_name(w)}") for name in counted for w in view.windows]
        return buckets.select(*keys, "stamp", *added)
    taken = [(-pl.col(name)).alias(f"{name}_{window_name(leaving)}") for name in counted]
    return buckets.select(*keys, pl.col("stamp") + after, *taken)


def _named(view: FeatureView, running: pl.LazyFrame) -> pl.LazyFrame:
    """Counts and smoothed rates under their declared names and types."""
    rates = [
        (
            (pl.col(f"{task}_{window_name(window)}") + view.prior * view.prior_weight)
            / (pl.col(f"{IMPRESSIONS}_{window_name(window)}") + view.prior_weight)
        )
        .cast(pl.Float32)
        .alias(f"{task}_rate_{window_name(window)}")
        for task in view.rates
        for window in view.windows
    ]
    return running.select(
        *view.entities,
        pl.col("stamp").alias("event_timestamp"),
        (pl.col("stamp") + view.delay).alias("created_timestamp"),
        *(pl.col(name).cast(pl.Int64) for name in view.count_features),
        *rates,
    )
