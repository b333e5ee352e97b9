"""What Feast asks of an offline store beside the join: pieces, saved datasets, logs, on-demand views."""

import os
import time
from datetime import UTC
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import FeatureService, FeatureStore, Field, RequestSource
from feast.data_format import DeltaFormat
from feast.feature_logging import LoggingConfig
from feast.infra.offline_stores.file_source import FileLoggingDestination, SavedDatasetFileStorage
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float64, Int64

from feast_asof import answering, turns
from feast_asof.errors import RetrievalError
from tests.feature_repo.worlds import HOUR, UTC_US, activity_view, at, make_store, write_history

FEATURES = ["activity:clicks", "activity:rate"]


def _row(user: int | None, hour: float, clicks: int | None, surface: str = "feed") -> dict[str, object]:
    known = {"event_timestamp": at(hour), "created_timestamp": at(hour)}
    return {"user_id": user, "surface": surface, **known, "clicks": clicks, "rate": 0.5}


def _asked(*hours: float, user: int = 1) -> pa.Table:
    clock = pa.array([at(hour) for hour in hours], UTC_US)
    keys = {"user_id": [user] * len(hours), "surface": ["feed"] * len(hours)}
    return pa.table({**keys, "event_timestamp": clock, "label": list(range(len(hours)))})


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    write_history([_row(1, 1, 10), _row(1, 3, 30), _row(2, 8, 80)], tmp_path / "files")
    return make_store(tmp_path, [activity_view(tmp_path / "files")])


@pytest.mark.parametrize("engine", ["memory", "duckdb"])
def test_pieces_are_the_answer(store: FeatureStore, tmp_path: Path, engine: str) -> None:
    store.config.offline_store.engine = engine
    entity_rows = _asked(*range(10))
    job = store.get_historical_features(entity_rows, FEATURES)
    chunks = list(job.to_arrow_batches(3))
    assert [chunk.num_rows for chunk in chunks] == [3, 3, 3, 1]
    assert pa.concat_tables(chunks).equals(job.to_arrow())
    assert job.to_parquet(tmp_path / "answer.parquet", rows=4) == 10
    assert pq.read_table(tmp_path / "answer.parquet").equals(job.to_arrow())
    assert job.to_polars()["clicks"].to_list() == [None, 10, 10, 30, 30, 30, 30, 30, 30, 30]
    empty = store.get_historical_features(entity_rows.slice(0, 0), FEATURES)
    assert [chunk.schema for chunk in empty.to_arrow_batches(3)] == [empty.to_arrow().schema]
    with pytest.raises(RetrievalError, match="rows: 0"):
        next(job.to_arrow_batches(0))


def test_a_long_history_is_read_in_turns(store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "_TURN", 1)
    monkeypatch.setattr(turns, "_MANY", 0)
    read: list[int] = []
    prepare = answering.prepare
    monkeypatch.setattr(answering, "prepare", lambda *a, **k: read.append(len(a[1])) or prepare(*a, **k))
    assert store.get_historical_features(_asked(2, 4), FEATURES).to_arrow()["clicks"].to_pylist() == [10, 30]
    write_history([_row(1, 1, 10), _row(1, 7, 70)], tmp_path / "files")
    assert store.get_historical_features(_asked(2, 9), FEATURES).to_arrow()["clicks"].to_pylist() == [10, 70]
    assert read == [1, 1, 1]  # the first question met one file only


def test_an_unfinished_file_is_not_seen(store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = store.get_historical_features(_asked(*range(10)), FEATURES)
    whole = answering._with_columns
    calls: list[int] = []

    def failing(*args: object) -> pa.Table:
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("planted")
        return whole(*args)

    left = tmp_path / "out" / ".answer.parquet.1.aside"  # of a writer that was killed two hours ago
    left.parent.mkdir()
    left.touch()
    os.utime(left, times=(time.time() - 7200,) * 2)
    monkeypatch.setattr(answering, "_with_columns", failing)
    with pytest.raises(RuntimeError, match="planted"):
        job.to_parquet(tmp_path / "out" / "answer.parquet", rows=2)
    assert list((tmp_path / "out").iterdir()) == []


def test_keys_in_a_window(tmp_path: Path) -> None:
    """Asked without entity rows: each key that a view has in the window, as of its end."""
    write_history([_row(1, 1, 10), _row(1, 3, 30), _row(2, 8, 80), _row(3, 20, 200), _row(None, 3, 1)], tmp_path / "f")
    views = [activity_view(tmp_path / "f"), activity_view(tmp_path / "f", "short", ttl=2 * HOUR)]
    store = make_store(tmp_path, views)
    refs = ["activity:clicks", "short:clicks"]
    for end in (at(9), at(9).replace(tzinfo=None)):
        job = store.get_historical_features(None, refs, full_feature_names=True, start_date=at(2), end_date=end)
        assert job.to_arrow().to_pylist() == [
            {"surface": "feed", "user_id": 1, "event_timestamp": at(9), "activity__clicks": 30, "short__clicks": None},
            {"surface": "feed", "user_id": 2, "event_timestamp": at(9), "activity__clicks": 80, "short__clicks": 80},
        ]
    no_start = store.get_historical_features(None, ["short:clicks"], end_date=at(9)).to_arrow()
    assert no_start["user_id"].to_pylist() == [2]  # the longest ttl before the end
    nothing = store.get_historical_features(None, ["short:clicks"], start_date=at(90), end_date=at(91)).to_arrow()
    assert nothing.num_rows == 0


@pytest.mark.parametrize("form", ["parquet", "delta", "folder"])
def test_saved_datasets_keep_the_label(store: FeatureStore, tmp_path: Path, form: str) -> None:
    kind = {"file_format": DeltaFormat()} if form == "delta" else {}
    storage = SavedDatasetFileStorage(path=str(tmp_path / f"saved.{form}"), **kind)
    job = store.get_historical_features(_asked(4, 2, 9), FEATURES)
    for overwrite in (False, True):
        store.create_saved_dataset(job, "training", storage, allow_overwrite=overwrite)
    table = store.get_saved_dataset("training")._retrieval_job.to_arrow()
    assert table["label"].to_pylist() == [0, 1, 2]
    assert table["clicks"].to_pylist() == [30, 10, 30]
    saved = store.registry.get_saved_dataset("training", store.project)
    assert saved.min_event_timestamp.replace(tzinfo=UTC) == at(2)
    assert saved.max_event_timestamp.replace(tzinfo=UTC) == at(9)


def test_on_demand_views(tmp_path: Path) -> None:
    write_history([_row(1, 1, 10), _row(1, 3, 30)], tmp_path / "files")
    view = activity_view(tmp_path / "files")

    @on_demand_feature_view(
        sources=[view, RequestSource(name="asked", schema=[Field(name="label", dtype=Int64)])],
        schema=[Field(name="twice", dtype=Float64)],
        mode="pandas",
    )
    def computed(frame: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"twice": 2.0 * frame["clicks"] + frame["label"]})

    store = make_store(tmp_path, [view])
    store.apply([computed])
    for full, name in ((False, "twice"), (True, "computed__twice")):
        job = store.get_historical_features(
            _asked(2, 4), ["activity:clicks", "computed:twice"], full_feature_names=full
        )
        assert job.to_arrow()[name].to_pylist() == [20.0, 61.0]
        assert [chunk[name].to_pylist() for chunk in job.to_arrow_batches(1)] == [[20.0], [61.0]]
    without = store.get_historical_features(_asked(2).drop_columns("label"), ["computed:twice"])
    with pytest.raises(RetrievalError, match="no column 'label'.*'computed'"):
        without.to_arrow()


@pytest.mark.parametrize("partition_by", [None, ["day"]])
def test_logged_features_come_back(store: FeatureStore, tmp_path: Path, partition_by: list[str] | None) -> None:
    destination = FileLoggingDestination(path=str(tmp_path / "log"), partition_by=partition_by)
    views = [store.get_feature_view("activity")]
    service = FeatureService(name="logged", features=views, logging_config=LoggingConfig(destination=destination))
    store.apply([service])
    log = pa.table(
        {
            "user_id": [1, 2],
            "surface": ["feed", "feed"],
            "activity__clicks": [10, 80],
            "activity__rate": pa.array([0.5, 0.5], pa.float32()),
            "activity__clicks__timestamp": pa.array([at(1), at(8)], UTC_US),
            "activity__rate__timestamp": pa.array([at(1), at(8)], UTC_US),
            "activity__clicks__status": pa.array([2, 2], pa.int32()),
            "activity__rate__status": pa.array([2, 2], pa.int32()),
            "__log_timestamp": pa.array([at(9), at(40)], UTC_US),
            "__log_date": pa.array([at(9).date(), at(40).date()]),
            "__request_id": ["a", "b"],
            "day": ["1", "2"],
        }
    )
    for _ in range(2):  # the same log twice is one log
        store.write_logged_features(log, service)
    job = store._get_provider().retrieve_feature_service_logs(service, at(0), at(20), store.config, store.registry)
    assert job.to_arrow().select(["user_id", "activity__clicks", "__request_id"]).to_pylist() == [
        {"user_id": 1, "activity__clicks": 10, "__request_id": "a"}
    ]


def test_a_timeout_ends_a_question(store: FeatureStore) -> None:
    slow = (
        "SELECT 1 AS user_id, 'feed' AS surface, TIMESTAMP '2026-01-01' AS event_timestamp, sum(a.range * b.range) s "
    )
    slow += "FROM range(100000) a, range(10000000) b"
    with pytest.raises(RetrievalError, match="timeout: 1 s"):
        store.get_historical_features(slow, FEATURES).to_arrow(timeout=1)
    assert store.get_historical_features(_asked(2), FEATURES).to_arrow(timeout=60)["clicks"].to_pylist() == [10]
