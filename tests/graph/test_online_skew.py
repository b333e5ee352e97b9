"""What the main job loaded for serving is what the offline join returns at that time: no training/serving skew."""

from datetime import timedelta

import numpy as np
import polars as pl
import torch

from exfm.feature_views import FeatureView
from exfm.history_views import HistoryView
from exfm.learning import Student
from exfm.prediction_views import PredictionView
from models.checkpoint import load_checkpoint
from pipeline.releases.release import current_release
from pipeline.transforms.inputs import tensors_for, with_calendar
from tests.conftest import Ran
from tests.graph.serving_rows import offline_rows, online_rows

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
    scored = 0
    for student in ran.work.project.students:
        release = current_release(ran.work, student)
        if release is None:
            continue
        learner, manifest = load_checkpoint(ran.work.state.release(student.name) / release.version, "cpu")
        asked = requests(ran, student)
        online, offline = online_rows(ran.work, student, asked), offline_rows(ran.work, student, asked)
        scores = [learner.predict(tensors_for(manifest, rows)) for rows in (online, offline)]
        assert torch.equal(scores[0], scores[1]) and len(scores[0]) == asked.height > 100, student.name
        # The comparison can fail: other users' inputs give other scores.
        views = [name for name in online.columns if "__" in name and name in manifest.encoder]
        assert views and not torch.equal(
            learner.predict(tensors_for(manifest, online.with_columns(pl.col(views).reverse()))), scores[0]
        )
        scored += 1
    assert scored


def requests(ran: Ran, student: Student) -> pl.DataFrame:
    """What was shown in the last slice, asked for again once its values are loaded; and a user and item never seen."""
    stream = ran.work.project.stream
    last = ran.work.table("impressions").newest(stream)
    assert last is not None
    delay = max(view.delay for view in ran.work.project.all_views if view.online)
    shown = ran.work.table("impressions").read([last])
    asked = pl.concat(
        [shown, shown.head(1).with_columns(user_id=pl.lit(10**9, pl.Int64), item_id=pl.lit(10**9, pl.Int64))]
    )
    asked = asked.with_columns(event_timestamp=pl.lit(last.end + delay, pl.Datetime("us", "UTC")))
    return with_calendar(asked.with_row_index("row"), stream)
