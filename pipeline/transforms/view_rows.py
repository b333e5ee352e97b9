"""Rows of any kind of view that is made of the log.

Belongs here: which function makes which kind, so that a new kind is named once. Not here: how (aggregates.py,
histories.py, computed.py).
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import polars as pl

from exfm.computed_views import PythonView, SqlView
from exfm.feature_views import INTERACTIONS, FeatureView
from exfm.history_views import HistoryView
from exfm.source_views import SourceView
from exfm.stream import Stream
from pipeline.transforms.aggregates import aggregate, needed_since
from pipeline.transforms.computed import ComputedView, computed, computed_needed_since
from pipeline.transforms.events import Events, events_of
from pipeline.transforms.histories import histories, history_needed_since
from pipeline.transforms.labels import with_labelled

EventView = FeatureView | HistoryView  # whose rows are made of each entity's own events
LogView = FeatureView | HistoryView | SqlView | PythonView
KeptView = LogView | SourceView  # whose rows are kept as tables of ours

_SINCE: dict[type, Callable[[Any, Stream, datetime], datetime]] = {
    FeatureView: needed_since,
    HistoryView: history_needed_since,
    SqlView: computed_needed_since,
    PythonView: computed_needed_since,
}
_OF_EVENTS: dict[type, Callable[..., pl.DataFrame]] = {FeatureView: aggregate, HistoryView: histories}


def since(view: LogView, stream: Stream, start: datetime) -> datetime:
    """How far back the log must reach for rows of a view stamped after ``start``."""
    return _SINCE[type(view)](view, stream, start)


def events_for(
    view: EventView, stream: Stream, impressions: pl.LazyFrame, outcomes: pl.LazyFrame, interactions: pl.LazyFrame
) -> Events:
    """What a view counts or lists, of the log since ``since``; see ``events_of``."""
    columns = [view.entity, view.of, *view.beside] if isinstance(view, HistoryView) else list(view.entities)
    tables = (impressions, outcomes, interactions)
    return {source: events_of(source, columns, stream, *tables) for source in view.sources}


def rows_of_events(view: EventView, stream: Stream, events: Events, start: datetime, end: datetime) -> pl.DataFrame:
    """Rows of a view stamped in (start, end]; see ``aggregate`` and ``histories``."""
    return _OF_EVENTS[type(view)](view, stream, events, start, end)


def rows_of_log(
    view: LogView,
    stream: Stream,
    impressions: pl.LazyFrame,
    outcomes: pl.LazyFrame,
    interactions: pl.LazyFrame,
    start: datetime,
    end: datetime,
) -> pl.DataFrame:
    """Rows of any view stamped in (start, end], of the log since ``since``."""
    if isinstance(view, ComputedView):
        told = with_labelled(stream, impressions, outcomes)
        return computed(view, stream, impressions, told, interactions, start, end)
    return rows_of_events(view, stream, events_for(view, stream, impressions, outcomes, interactions), start, end)


def reads_interactions(view: KeptView) -> bool:
    """Is the view made of interactions, too? Others don't wait for them."""
    return INTERACTIONS in view.sources
