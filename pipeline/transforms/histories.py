"""Histories: the last ids that an entity met, as rows that change when the past does.

Belongs here: gathering the lists over half-open windows. Not here: which slices are read (assets/features.py).
"""

from collections.abc import Iterator
from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pyarrow as pa

from exfm.history_views import ACTION, AT, LAST, HistoryView
from exfm.stream import Stream
from pipeline.transforms.events import Events
from pipeline.transforms.stamps import Stamps, distinct


def history_needed_since(view: HistoryView, stream: Stream, start: datetime) -> datetime:
    """How far back impressions, outcomes and interactions must reach for rows stamped after ``start``.

    A window reaches back by its length, and an outcome in it may be of an impression one attribution window older.
    """
    windows = [stream.task(source).window for source in view.sources if source in stream.task_names]
    return start - view.window - stream.slack - max(windows, default=timedelta(0))


def histories(view: HistoryView, stream: Stream, events: Events, start: datetime, end: datetime) -> pl.DataFrame:
    """Rows of a view stamped in (start, end], one for each entity and stamp at which its list may have changed.

    A row stamped s lists the newest ``length`` events in [s - window, s): an event at s itself is not in it, so a row
    may be given to an impression at s. Events at one moment are ordered by what is listed of them. When all has left
    the window, an empty list says so.

    Args:
        events: by source the entity, what is listed, and ``at``, of the log since ``history_needed_since``.

    Returns:
        entity, ``event_timestamp`` (s), ``created_timestamp`` (s + delay), ``last`` (list of ids, newest at its end)
        and what is listed beside it; by stamp, then entity.
    """
    known = pl.col(AT) < end, pl.col(view.entity).is_not_null(), pl.col(view.of).is_not_null()
    order = [view.entity, AT, view.of, *(name for name in view.features if name not in (LAST, AT))]
    met = _together(view, events).filter(*known).sort(order).collect()
    # An event enters at the first stamp after it and leaves one window later.
    stamps = Stamps(stream, view.every, (history_needed_since(view, stream, start), end))
    window = stamps.within(view.window)
    enters = met.select(stamps.number(pl.col(AT)) + 1).to_series().to_numpy()
    entity = met[view.entity].rle_id().to_numpy().astype(np.int64)
    first, last = stamps.number_of(start) + 1, stamps.number_of(end)
    of, stamp = np.divmod(distinct([_changes(entity, at, first, last) for at in (enters, enters + window)]), _SPAN)
    entered = _keyed(entity, enters)  # sorted: met is by entity, then time
    stop = np.searchsorted(entered, _keyed(of, stamp), side="right")
    gone = np.searchsorted(entered, _keyed(of, stamp - window), side="right")
    begin = np.maximum(gone, stop - view.length)
    first_rows = np.flatnonzero(np.diff(entity, prepend=-1))  # the first row of each entity
    moment = pl.DataFrame({"event_timestamp": stamp}).select(stamps.time(pl.col("event_timestamp"))).to_series()
    rows = pl.DataFrame(
        [
            met[view.entity].gather(first_rows[of]).alias(view.entity),
            moment,
            (moment + view.delay).alias("created_timestamp"),
            *_listed(view, met, begin, stop),
        ]
    )
    return rows.sort("event_timestamp", view.entity)


_SPAN = np.int64(2**40)  # more stamps of a microsecond's width than fit are not declared: an hour's are 2^32 years


def _keyed(entity: np.ndarray, stamp: np.ndarray) -> np.ndarray:
    keyed: np.ndarray = entity * _SPAN + stamp
    return keyed


def _changes(entity: np.ndarray, stamp: np.ndarray, first: int, last: int) -> np.ndarray:
    inside = (stamp >= first) & (stamp <= last)
    return _keyed(entity[inside], stamp[inside])


def _listed(view: HistoryView, met: pl.DataFrame, begin: np.ndarray, stop: np.ndarray) -> Iterator[pl.Series]:
    """Each of the view's features: lists of events[begin:stop], one a row."""
    lengths = stop - begin
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths) + np.repeat(begin, lengths)
    for feature in view.features:
        values = met[view.of if feature == LAST else feature]
        flat = (values.dt.epoch("s") if feature == AT else values).gather(within).to_arrow()
        lists = pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), flat)
        yield pl.Series(feature, pl.from_arrow(lists))


def _together(view: HistoryView, events: Events) -> pl.LazyFrame:
    """The events of all sources; of several with ``action``, which it was."""
    if len(events) == 1:
        return events[view.sources[0]]
    return pl.concat(each.with_columns(pl.lit(source).alias(ACTION)) for source, each in events.items())
