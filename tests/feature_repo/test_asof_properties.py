"""Random questions to the offline store, in every form and engine, against brute force; and to the stock stores."""

import shutil
from collections import Counter
from pathlib import Path
from random import Random

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import FeatureStore
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feast_asof import turns
from feast_asof.connection import Engine
from tests.feature_repo.cases import Case, entity_table, objects, random_case, served, write_rows
from tests.feature_repo.worlds import make_store

ANY = {"deadline": None, "suppress_health_check": list(HealthCheck), "print_blob": True, "derandomize": True}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cases")


@pytest.fixture(scope="module")
def store(folder: Path) -> FeatureStore:
    return make_store(folder, objects(folder / "now"))


def _given(case: Case, table: pa.Table, folder: Path) -> object:
    if case.form == "pandas":
        return table.to_pandas(integer_object_nulls=True, timestamp_as_object=False).astype(
            {name: "Int64" for name in table.column_names if pa.types.is_integer(table.schema.field(name).type)}
        )
    if case.form == "polars":
        return pl.from_arrow(table)
    if case.form == "arrow":
        return table
    path = folder / "entities.parquet"
    pq.write_table(table, path)
    return str(path) if case.form == "path" else f"SELECT * FROM read_parquet('{path}') ORDER BY label"


def _answer(store: FeatureStore, case: Case, given: object, monkeypatch: pytest.MonkeyPatch) -> pa.Table:
    engine = {"duckdb": "duckdb", "sweep": "auto"}.get(case.mode.split()[0], "memory")
    store.config.offline_store.engine = engine
    with monkeypatch.context() as patch:
        if case.mode == "turns":
            patch.setattr(turns, "_TURN", 4)
            patch.setattr(turns, "_MANY", 0)
        if engine == "auto":  # not what DuckDB may take, which could not even begin
            patch.setattr(Engine, "limit", case.limit)
        job = store.get_historical_features(
            given,
            store.get_feature_service("every"),
            full_feature_names=True,
            filter_by_created_timestamp=case.cutoff,
        )
        if not case.mode.endswith("pieces"):
            return job.to_arrow()
        chunks = list(job.to_arrow_batches(case.chunk_rows))
    assert all(chunk.num_rows <= case.chunk_rows for chunk in chunks)
    return pa.concat_tables(chunks)


def _check(store: FeatureStore, folder: Path, rng: Random, monkeypatch: pytest.MonkeyPatch) -> Case:
    case = random_case(rng)
    shutil.rmtree(folder / "now", ignore_errors=True)
    write_rows(rng, case, folder / "now")
    table = entity_table(case, rng)
    answer = _answer(store, case, _given(case, table, folder), monkeypatch)
    assert answer["label"].to_pylist() == [entity["label"] for entity in case.entities]
    assert answer["event_timestamp"].cast(pa.int64()).to_pylist() == [entity["clock"] for entity in case.entities]
    for name in (name for name in answer.column_names if name.endswith("__value")):
        assert answer.schema.field(name).type == pa.int64()
        for entity, value in zip(case.entities, answer[name].to_pylist(), strict=True):
            allowed = served(case, name.removesuffix("__value"), entity)
            assert value in allowed, (name, entity, value, allowed, case.mode, case.form, case.cutoff)
    return case


@settings(max_examples=40, **ANY)
@given(rng=st.randoms(use_true_random=False))
def test_equals_brute_force(store: FeatureStore, folder: Path, rng: Random) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        _check(store, folder, rng, monkeypatch)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(1200)
def test_hundreds_of_cases_equal_brute_force(
    store: FeatureStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plain seeds: hypothesis spends most of its time on looking for smaller cases, which need no thousands."""
    cases = [_check(store, folder, Random(seed), monkeypatch) for seed in range(500)]
    combinations = Counter((case.mode, case.form, case.cutoff) for case in cases)
    assert len(combinations) == 60
    answers = [served(case, view, e) for case in cases for e in case.entities for view in ("pair_ttl", "viewed", "all")]
    assert sum(len(values) > 1 for values in answers) > 50
    assert sum(values != {None} for values in answers) > 1_600
