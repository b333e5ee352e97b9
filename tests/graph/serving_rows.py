"""A release's inputs for some requests, as a server asks for them and as training would.

Belongs here: asking Feast both ways. Not here: what is compared (test_online_skew.py, test_source_views.py).
"""

import polars as pl

from exfm.learning import Student
from exfm.names import inputs_service
from pipeline.transforms.inputs import stored_type
from pipeline.workspace import Workspace


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
