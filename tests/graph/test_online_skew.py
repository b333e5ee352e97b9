"""What the main job loaded for serving is what the offline join returns at that time: no training/serving skew."""

from datetime import timedelta

import numpy as np
import polars as pl

from exfm.feature_views import FeatureView
from exfm.history_views import HistoryView
from exfm.prediction_views import PredictionView
from tests.conftest import Ran
from tests.graph.serving_rows import assert_scores_are_the_same

View = FeatureView | HistoryView | PredictionView


def _skew(ran: Ran, view: View, before: timedelta = timedelta(0)) -> tuple[int, int]:
    """Keys compared, and values that differ between the online store and the offline join.

    Args:
        before: how long before the load the offline join looks.
    """
    stream, table = ran.work.project.stream, ran.work.features(view.name)
    newest = table.newest(stream)
    assert newest is not None
    keys = table.scan(table.stored(stream)).select(view.entities).unique().sort(view.entities).collect()
    # The clock at which the last slice's values were in the online store.
    clock = pl.lit(newest.end + view.delay - before).cast(pl.Datetime("us", "UTC"))
    entity_rows = keys.with_columns(clock.alias("event_timestamp"))
    features = [f"{view.name}:{name}" for name in view.features]
    job = ran.work.store.get_historical_features(entity_rows, features, filter_by_created_timestamp=True)
    offline = job.to_polars()
    online = ran.work.store.get_online_features(features, keys.to_dicts()).to_dict()
    pairs = (
        (name, value, other) for name in view.features for value, other in zip(offline[name], online[name], strict=True)
    )
    return keys.height, sum(not _equal(value, other) for _, value, other in pairs)


def _equal(value: object, other: object) -> bool:
    if any(isinstance(side, list | pl.Series) for side in (value, other)):
        # Feast's online store knows no empty list: it gives a null back.
        mine, theirs = ([] if side is None else list(side) for side in (value, other))  # type: ignore[call-overload]
        return bool(mine == theirs)
    return value is other or (value is not None and other is not None and np.float32(value) == np.float32(other))  # type: ignore[arg-type]


def test_online_is_offline_at_that_time(ran: Ran) -> None:
    served = [view for view in ran.work.project.all_views if view.online]
    assert {type(view) for view in served} == {FeatureView, HistoryView, PredictionView}
    for view in served:
        keys, differ = _skew(ran, view)
        assert keys > 10 and differ == 0, (view.name, keys, differ)
        # The comparison can fail: a slice earlier the values were others.
        assert _skew(ran, view, ran.work.project.stream.slice_length)[1] > keys // 10


def test_a_release_scores_a_request_online_as_it_would_offline(ran: Ran) -> None:
    """The same release, its inputs from the online store and from the offline join as of that clock: the same bits."""
    assert any([assert_scores_are_the_same(ran.work, student) for student in ran.work.project.students])
