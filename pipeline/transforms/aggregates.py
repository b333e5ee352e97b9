"""Activity features: counts and rates of the past, as rows that change when the past does.

Belongs here: the aggregation over half-open windows. Not here: which slices it reads (assets/features.py).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from exfm.feature_views import IMPRESSIONS, FeatureView, window_name
from exfm.history_views import AT
from exfm.stream import Stream
from pipeline.transforms.events import Events
from pipeline.transforms.stamps import Stamps, distinct

_ENTITY, _ORDER = "exfm entity", "exfm order"  # what no column is called


def needed_since(view: FeatureView, stream: Stream, start: datetime) -> datetime:
    """How far back impressions, outcomes and interactions must reach for rows stamped after ``start``.

    A window reaches back by its length, and an outcome in it may be of an impression one attribution window older.
    """
    tasks = [stream.task(name).window for name in (*view.counts, *view.rates) if name in stream.task_names]
    return start - max(view.windows) - stream.slack - max(tasks, default=timedelta(0))


def aggregate(view: FeatureView, stream: Stream, events: Events, start: datetime, end: datetime) -> pl.DataFrame:
    """Rows of a view stamped in (start, end], one for each entity and stamp at which a value may have changed.

    A row stamped s counts what happened in [s - window, s): an event at s itself is not in it, so a row may be given to
    an impression at s. An event enters at the first stamp after it and leaves each window at its own stamp; what
    entered up to s, less what did up to s - window, is exact, and the same for a range at once as for its slices one by
    one. When all has left, a row of zeros says so; ``view.ttl`` after its last row an entity has no value.

    Args:
        events: by source the entities and ``at``, when it counts from, of the log since ``needed_since``.

    Returns:
        entities, ``event_timestamp`` (s), ``created_timestamp`` (s + delay), counts (Int64), rates (Float32);
        by stamp, then entities.
    """
    keys = list(view.entities)
    stamps = Stamps(stream, view.every, (needed_since(view, stream, start), end))
    known = pl.col(AT) < end, *(pl.col(key).is_not_null() for key in keys)
    stamped = [each.filter(*known).select(*keys, stamp=stamps.number(pl.col(AT)) + 1) for each in events.values()]
    entered = dict(zip(events, pl.collect_all(stamped), strict=True))
    windows = {window: stamps.within(window) for window in view.windows}
    places = _Places.of(entered.values(), keys, max(windows.values()))
    enters = {name: places.of_events(each) for name, each in entered.items()}
    del entered
    inside = stamps.number_of(start) + 1, stamps.number_of(end)
    after = (0, *windows.values())
    rows = distinct([places.among(enter + later, *inside) for enter in enters.values() for later in after])
    counts = {
        f"{name}_{window_name(window)}": _up_to(enter, rows) - _up_to(enter, rows - length)
        for name, enter in enters.items()
        for window, length in windows.items()
    }
    return _named(view, stamps, places.rows(rows, counts))


def _up_to(sorted_: np.ndarray, places: np.ndarray) -> np.ndarray:
    """How many of some sorted places are not after each of others."""
    return np.searchsorted(sorted_, places, side="right")


def _unique(events: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    """The entities of events: of one column in a third of the time that a frame takes."""
    return events[keys[0]].unique().to_frame() if len(keys) == 1 else events.select(keys).unique()


@dataclass(frozen=True)
class _Places:
    """Entity and stamp as one whole number, which sorts as the two do: sorting those is what most of a view costs.

    Args:
        entities: each once, sorted.
        first: the earliest stamp.
        span: more stamps than there are, and than a window has: none reaches another entity's.
    """

    entities: pl.DataFrame
    first: int
    span: int

    @classmethod
    def of(cls, events: Iterable[pl.DataFrame], keys: list[str], longest: int) -> "_Places":
        """Of events with ``stamp``, with room for a window of so many stamps."""
        listed = [each for each in events if not each.is_empty()] or [next(iter(events))]
        ends = pl.concat([each.select(first=pl.col("stamp").min(), last=pl.col("stamp").max()) for each in listed])
        first, last = ends.select(pl.col("first").min().fill_null(0), pl.col("last").max().fill_null(0)).row(0)
        entities = pl.concat(_unique(each, keys) for each in listed).unique().sort(keys)
        return cls(entities, first, last - first + longest + 1)

    def of_events(self, events: pl.DataFrame) -> np.ndarray:
        """The places of events, sorted."""
        keys = self.entities.columns
        numbered = events.lazy().join(self.entities.lazy().with_row_index(_ENTITY), on=keys, how="left")
        place = pl.col(_ENTITY).cast(pl.Int64) * self.span + (pl.col("stamp") - self.first)
        return numbered.select(place).collect().to_series().sort().to_numpy()

    def among(self, places: np.ndarray, first: int, last: int) -> np.ndarray:
        """Those whose stamps are in [first, last]."""
        stamp = places % self.span + self.first
        return places[(stamp >= first) & (stamp <= last)]

    def rows(self, places: np.ndarray, columns: Mapping[str, np.ndarray]) -> pl.DataFrame:
        """Entities, ``stamp``, and columns of some places; by stamp, then entities."""
        entity, stamp = np.divmod(places, self.span)
        order = stamp * max(self.entities.height, 1) + entity
        found = pl.DataFrame({_ORDER: order, _ENTITY: entity, "stamp": stamp + self.first, **columns}).sort(_ORDER)
        return found.with_columns(self.entities[key].gather(found[_ENTITY]) for key in self.entities.columns)


def _named(view: FeatureView, stamps: Stamps, rows: pl.DataFrame) -> pl.DataFrame:
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
    at = stamps.time(pl.col("stamp"))
    return rows.select(
        *view.entities,
        at.alias("event_timestamp"),
        (at + view.delay).alias("created_timestamp"),
        *(pl.col(name).cast(pl.Int64) for name in view.count_features),
        *rates,
    )
