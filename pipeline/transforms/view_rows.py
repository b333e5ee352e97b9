"""Rows of any kind of view that is made of the log.

Belongs here: which function makes which kind, so that a new kind is named once. Not here: how (aggregates.py,
histories.py, computed.py).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

from exfm.computed_views import PythonView, SqlView
from exfm.feature_views import INTERACTIONS, FeatureView
from exfm.history_views import HistoryView
from exfm.source_views import SourceView
from exfm.stream import Stream
from pipeline.transforms.aggregates import aggregate, needed_since
from pipeline.transforms.computed import computed, computed_needed_since
from pipeline.transforms.histories import histories, history_needed_since

LogView = FeatureView | HistoryView | SqlView | PythonView
KeptView = LogView | SourceView  # whose rows are kept as tables of ours


@dataclass(frozen=True)
class _Maker:
    """Of one kind of view: how far back it reads the log, and its rows."""

    since: Callable[[Any, Stream, datetime], datetime]
    rows: Callable[..., pl.DataFrame]


_MAKERS: dict[type, _Maker] = {
    FeatureView: _Maker(needed_since, aggregate),
    HistoryView: _Maker(history_needed_since, histories),
    SqlView: _Maker(computed_needed_since, computed),
    PythonView: _Maker(computed_needed_since, computed),
}


def since(view: LogView, stream: Stream, start: datetime) -> datetime:
    """How far back the log must reach for rows of a view stamped after ``start``."""
    return _MAKERS[type(view)].since(view, stream, start)


def view_rows(
    view: LogView,
    stream: Stream,
    impressions: pl.LazyFrame,
    outcomes: pl.LazyFrame,
    interactions: pl.LazyFrame,
    start: datetime,
    end: datetime,
) -> pl.DataFrame:
    """Rows of a view stamped in (start, end], of the log since ``since``; see ``aggregate`` and ``histories``."""
    return _MAKERS[type(view)].rows(view, stream, impressions, outcomes, interactions, start, end)


def reads_interactions(view: KeptView) -> bool:
    """Is the view made of interactions, too? Others don't wait for them."""
    return INTERACTIONS in view.sources
