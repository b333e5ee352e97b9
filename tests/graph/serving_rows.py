"""A release's inputs for some requests, as a server asks for them and as training would.

Belongs here: asking Feast both ways, and scores of both. Not here: which projects (test_online_skew.py,
test_source_views.py, test_log_inputs.py).
"""

import json

import numpy as np
import polars as pl
import torch

from exfm.learning import Student
from exfm.names import inputs_service
from models.checkpoint import load_checkpoint
from pipeline.releases.release import current_release
from pipeline.transforms.inputs import stored_type, tensors_for, with_calendar
from pipeline.workspace import Workspace
from serving.answering import Answering

SERVED_AGREE = 1e-4  # rounding of another runtime


def online_rows(work: Workspace, student: Student, asked: pl.DataFrame) -> pl.DataFrame:
    """Requests with the newest values of the online store beside them.

    Args:
        asked: what a request brings: ids and context, ``event_timestamp``.
    """
    service = work.store.get_feature_service(inputs_service(student.name))
    keys = sorted({key for view in work.project.all_views for key in view.entities} & set(asked.columns))
    answer = work.store.get_online_features(service, asked.select(keys).to_dicts(), full_feature_names=True).to_dict()
    encoder = work.project.encoder(work.project.columns_of(student.inputs, where=student.name))
    values = {
        name: pl.Series(name, column, stored_type(encoder[name]), strict=False)
        for name, column in answer.items()
        if name in encoder and name not in asked.columns
    }
    return asked.with_columns(**values)


def offline_rows(work: Workspace, student: Student, asked: pl.DataFrame) -> pl.DataFrame:
    """The same by the offline join, of what was there at the time of the request."""
    service = work.store.get_feature_service(inputs_service(student.name))
    job = work.store.get_historical_features(asked, service, full_feature_names=True, filter_by_created_timestamp=True)
    answer = job.to_polars()
    known = [name for name in answer.columns if name not in asked.columns]
    return asked.join(answer.select("row", *known), on="row", how="left", maintain_order="left")


def assert_scores_are_the_same(work: Workspace, student: Student, *each: str) -> bool:
    """A release scores requests alike by the online store and by the offline join as of then; whether there is one.

    Args:
        each: views, or columns of the log, that count by themselves.
    """
    release = current_release(work, student)
    if release is None:
        return False
    learner, manifest = load_checkpoint(work.state.release(student.name) / release.version, "cpu")
    asked = requests(work)
    online, offline = online_rows(work, student, asked), offline_rows(work, student, asked)
    scores = [learner.predict(tensors_for(manifest, rows)) for rows in (online, offline)]
    assert torch.equal(scores[0], scores[1]) and len(scores[0]) == asked.height > 100, student.name
    served = served_scores(work, student, asked)
    assert np.abs(served - torch.sigmoid(scores[0][:, 0]).numpy()).max() < SERVED_AGREE, student.name
    # The comparison can fail: others' inputs give other scores.
    ids = {column.name for column in work.project.stream.id_columns}
    read = [name for name in online.columns if name in manifest.encoder and name not in ids]
    for columns in (read, *([name for name in read if name.partition("__")[0] == view] for view in each)):
        assert columns
        other = tensors_for(manifest, online.with_columns(pl.col(columns).reverse()))
        assert not torch.equal(learner.predict(other), scores[0]), columns
    return True


def served_scores(work: Workspace, student: Student, asked: pl.DataFrame) -> np.ndarray:
    """What the server answers, a request a user; by the row of ``asked``."""
    moment = asked["event_timestamp"][0]
    answering = Answering(work.project, work.state, now=lambda: moment)
    answering.releases.look()
    serving, stream = answering.serving(student.name), work.project.stream
    given = [name for name in asked.columns if name in serving.reader.known - {stream.surface.name, *stream.calendar}]
    scores = np.full(asked.height, np.nan)
    for (user,), rows in asked.group_by(stream.user.name, maintain_order=True):
        candidates = rows.select(name for name in given if name != stream.user.name).to_dicts()
        # Each candidate is told apart by its place: items repeat.
        body = json.dumps({"user": user, "candidates": candidates})
        answer = answering.rank(student.name, body.encode())
        for at, score in zip(rows["row"].to_list(), answer.in_order, strict=True):
            scores[at] = score
        assert [each["score"] for each in answer.body["scores"]] == sorted(answer.in_order, reverse=True)
    return scores


def requests(work: Workspace) -> pl.DataFrame:
    """What was shown in the last slice, asked for again once its values are loaded; and a user and item never seen."""
    stream = work.project.stream
    last = work.table("impressions").newest(stream)
    assert last is not None
    delay = max(view.delay for view in work.project.all_views if view.online)
    shown = work.table("impressions").read([last])
    asked = pl.concat(
        [shown, shown.head(1).with_columns(user_id=pl.lit(10**9, pl.Int64), item_id=pl.lit(10**9, pl.Int64))]
    )
    asked = asked.with_columns(event_timestamp=pl.lit(last.end + delay, pl.Datetime("us", "UTC")))
    return with_calendar(asked.with_row_index("row"), stream)
