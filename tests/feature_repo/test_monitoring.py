"""What ``feast monitor`` computes and keeps, against numpy, pandas and Feast's own DuckDB store."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import FeatureStore, FileSource
from feast.infra.offline_stores.duckdb import DuckDBOfflineStore, _duckdb_categorical_stats, _duckdb_numeric_stats
from feast.monitoring.dqm_job_manager import DQMJobManager
from feast.monitoring.monitoring_utils import FEATURE_METRICS_COLUMNS, MONITORING_PARQUET_FILES

from feast_asof import monitoring
from tests.feature_repo.worlds import UTC_US, at, make_store

Metrics = list[dict[str, Any]]
STATISTICS = ["mean", "stddev", "min_val", "max_val", "p50", "p75", "p90", "p95", "p99"]
KEY = {"project_id": "p", "feature_view_name": "v", "granularity": "daily", "data_source_type": "batch"}


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return make_store(tmp_path / "repo", [])


def _computed(store: FeatureStore, columns: dict[str, pa.Array], kinds: dict[str, str], **options: int) -> Metrics:
    path = Path(store.config.repo_path) / "rows.parquet"
    clock = pa.array([at(0)] * len(next(iter(columns.values()))), UTC_US)
    pq.write_table(pa.table({**columns, "event_timestamp": clock}), path)
    source = FileSource(path=str(path), timestamp_field="event_timestamp")
    metrics: Metrics = store._get_provider().offline_store.compute_monitoring_metrics(
        store.config, source, list(kinds.items()), "event_timestamp", at(-1), at(1), **options
    )
    assert [(row["feature_name"], row["feature_type"]) for row in metrics] == list(kinds.items())
    return metrics


@pytest.mark.parametrize("seed", range(3))
def test_statistics_are_those_of_numpy_and_pandas(store: FeatureStore, seed: int) -> None:
    rng = np.random.default_rng(seed)
    bad = rng.choice([None, float("nan"), float("inf"), -float("inf")], 500)
    rates = np.where(rng.random(500) < 0.8, rng.normal(3, 5, 500), bad).tolist()
    words = [str(word) if word < 9 else None for word in np.minimum(rng.geometric(0.3, 500), 9)]
    columns = {'odd "name"': pa.array(words), "rate": pa.array(rates, pa.float64())}
    word, rate = _computed(store, columns, {'odd "name"': "categorical", "rate": "numeric"}, top_n=3)

    held = np.array([x for x in rates if x is not None and np.isfinite(x)])
    assert (rate["row_count"], rate["null_count"]) == (500, 500 - len(held))
    assert rate["null_rate"] == pytest.approx(1 - len(held) / 500)
    expected = [held.mean(), held.std(ddof=1), held.min(), held.max(), *np.quantile(held, [0.5, 0.75, 0.9, 0.95, 0.99])]
    np.testing.assert_allclose([rate[name] for name in STATISTICS], expected)
    for name, numbers in zip(["counts", "bins"], np.histogram(held, 20), strict=True):
        np.testing.assert_allclose(rate["histogram"][name], numbers)

    frequent = pd.Series(words).value_counts()
    values = word["histogram"]["values"]
    assert [entry["count"] for entry in values] == frequent[:3].tolist()
    assert all(frequent[entry["value"]] == entry["count"] for entry in values)
    assert word["histogram"]["other_count"] == frequent[3:].sum()
    assert word["histogram"]["unique_count"] == len(frequent)
    assert (word["row_count"], word["null_count"]) == (500, words.count(None))


def test_clean_data_is_counted_as_feast_does(store: FeatureStore) -> None:
    rng = np.random.default_rng(7)
    words = np.repeat(["a", "b", "c"], [50, 30, 20])
    columns = {"rate": pa.array(rng.normal(size=100)), "word": pa.array(words)}
    ours = _computed(store, columns, {"rate": "numeric", "word": "categorical"}, histogram_bins=7, top_n=2)
    files = f"read_parquet('{store.config.repo_path}/rows.parquet')"
    theirs = _duckdb_numeric_stats(duckdb.connect(), files, ["rate"], "", 7)
    theirs.append(_duckdb_categorical_stats(duckdb.connect(), files, "word", "", 2))
    pd.testing.assert_frame_equal(pd.json_normalize(ours), pd.json_normalize(theirs), check_like=True)


@pytest.mark.parametrize("rows", [0, 4])
def test_nothing_to_count(store: FeatureStore, rows: int) -> None:
    columns = {"rate": pa.nulls(rows, pa.float32()), "word": pa.nulls(rows, pa.string())}
    for metric in _computed(store, columns, {"word": "categorical", "rate": "numeric"}):
        assert (metric["row_count"], metric["null_count"]) == (rows, rows)
        assert metric["null_rate"] == (1.0 if rows else 0.0)
        assert all(metric[name] is None for name in [*STATISTICS, "histogram"])


@pytest.mark.parametrize("values", [[2**60 + 1, 1, 1], [1.0, np.nextafter(1, 2), 1.0], [-1.7e308, 1.7e308, 0.0]])
def test_any_number_is_counted(store: FeatureStore, values: list[float]) -> None:
    [metric] = _computed(store, {"x": pa.array(values)}, {"x": "numeric"})
    assert metric["max_val"] == float(max(values))
    assert sum(metric["histogram"]["counts"]) == 3


def test_a_job_runs_to_its_end(store: FeatureStore) -> None:
    class Service:
        def compute_baseline(self, **_: object) -> dict[str, str]:
            return {"status": "completed"}

    jobs = DQMJobManager(store._get_provider().offline_store, store.config)
    jobs.ensure_table()
    job = jobs.submit("p", "baseline", "v", {"feature_names": ["f"]})
    jobs.execute_job(job, Service())
    result = jobs.get_job(job, "p") or {}
    assert result["status"] == "completed" and result["started_at"] <= result["completed_at"]


def test_tables_give_what_feasts_store_gives(store: FeatureStore) -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    row = {
        **KEY,
        "feature_name": "f",
        "computed_at": moment,
        "feature_type": "numeric",
        "row_count": 3,
        "null_count": 0,
    }
    row |= dict.fromkeys([*STATISTICS, "null_rate"], 0.5)
    rows = [{**row, "metric_date": date(2026, 1, day), "is_baseline": day == 2, "mean": day} for day in (3, 1, 2)]
    rows = [{**metric, "max_event_timestamp": moment, "histogram": {"bins": [1.5]}} for metric in rows]
    feasts = store.config.model_copy(update={"repo_path": Path(store.config.repo_path) / "feasts"})
    feasts.offline_config, feasts._offline_store = {"type": "duckdb"}, None
    for offline, config in ((store._get_provider().offline_store, store.config), (DuckDBOfflineStore, feasts)):
        offline.save_monitoring_metrics(config, "feature", rows)
        offline.save_monitoring_metrics(config, "feature", [{**rows[0], "mean": 9.0}])
    for question in ({}, {"filters": {"is_baseline": True, "feature_name": None}}, {"start_date": date(2026, 1, 2)}):
        ours = store._get_provider().offline_store.query_monitoring_metrics(store.config, "p", "feature", **question)
        assert ours == DuckDBOfflineStore.query_monitoring_metrics(feasts, "p", "feature", **question)
        assert ours and ours[-1]["mean"] in (2.0, 9.0)


def test_clearing_touches_only_what_matches_and_types_stay(tmp_path: Path) -> None:
    monitoring.ensure_tables(tmp_path)
    path = tmp_path / MONITORING_PARQUET_FILES["feature"]
    empty = pq.read_schema(path)
    assert empty.names == FEATURE_METRICS_COLUMNS and pa.null() not in empty.types
    names = [("v", "f"), ("v", "g"), ("w", "f")]
    rows = [{**KEY, "feature_view_name": v, "feature_name": f, "metric_date": date(2026, 1, 1)} for v, f in names]
    monitoring.save_metrics(tmp_path, "feature", [{**row, "is_baseline": True} for row in rows])
    where = {"feature_view_name": "v", "feature_name": "f", "data_source_type": None}
    monitoring.clear_baseline(tmp_path, "another", *where.items())
    monitoring.clear_baseline(tmp_path, "p", *where.items())
    baselines = monitoring.query_metrics(tmp_path, "p", "feature", {"is_baseline": True}, None, None)
    assert {(row["feature_view_name"], row["feature_name"]) for row in baselines} == {("v", "g"), ("w", "f")}
    assert pq.read_schema(path).equals(empty)
