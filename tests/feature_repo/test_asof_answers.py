"""The offline store against brute force, against the stock store, and its order, types and forms of input."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType
from feast.data_format import ParquetFormat
from feast.types import Int64, String

from tests.feature_repo.worlds import (
    ASOF,
    HISTORY,
    HOUR,
    UTC_US,
    activity_view,
    at,
    known_rows,
    make_store,
    random_world,
    write_history,
)

SEEDS = range(40)
FEATURES = ["activity:clicks", "activity:rate", "short_lived:clicks", "short_lived:rate"]
TTL = 5 * HOUR
ENTITIES = pa.schema(
    [HISTORY.field("user_id"), HISTORY.field("surface"), ("event_timestamp", UTC_US), ("label", pa.int64())]
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("asof")


@pytest.fixture(scope="module")
def store(folder: Path) -> FeatureStore:
    """Two views of the files that lie under the folder named ``now``: one that never expires, one with a ttl."""
    views = [activity_view(folder / "now"), activity_view(folder / "now", "short_lived", TTL)]
    return make_store(folder, views)


def _move_in(folder: Path, history: list[dict[str, object]]) -> None:
    now = folder / "now"
    if now.exists():
        for path in now.rglob("*.parquet"):
            path.unlink()
    write_history(history, now)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("cutoff", [False, True])
def test_equals_brute_force(store: FeatureStore, folder: Path, seed: int, cutoff: bool) -> None:
    world = random_world(seed)
    _move_in(folder, world.history)
    entity_rows = pa.Table.from_pylist(world.entities, schema=ENTITIES)
    job = store.get_historical_features(
        entity_rows, FEATURES, full_feature_names=True, filter_by_created_timestamp=cutoff
    )
    table = job.to_arrow()
    assert table.select(entity_rows.column_names).equals(entity_rows)
    assert table.schema.field("activity__clicks").type == pa.int64()
    assert table.schema.field("activity__rate").type == pa.float32()
    for view, ttl in (("activity", timedelta(0)), ("short_lived", TTL)):
        pairs = zip(table[f"{view}__clicks"].to_pylist(), table[f"{view}__rate"].to_pylist(), strict=True)
        for entity, pair in zip(world.entities, pairs, strict=True):
            assert pair in known_rows(world, entity, ttl, cutoff=cutoff), (view, entity)
    assert job.to_arrow().equals(table)


def test_the_random_worlds_have_what_they_are_for() -> None:
    worlds = [random_world(seed) for seed in SEEDS]
    answers = [
        (known_rows(w, e, ttl, cutoff=cutoff), known_rows(w, e, timedelta(0), cutoff=False))
        for w in worlds
        for e in w.entities
        for ttl in (timedelta(0), TTL)
        for cutoff in (False, True)
    ]
    assert sum(here != plain for here, plain in answers) > 200
    assert sum(len(here) > 1 for here, _ in answers) > 20
    assert any(len({e["event_timestamp"] for e in w.entities}) == 1 and len(w.entities) > 5 for w in worlds)


@pytest.mark.parametrize("stock", ["duckdb", "dask"])
def test_agrees_with_the_stock_stores_in_the_plain_case(tmp_path: Path, stock: str) -> None:
    """Distinct rows that all have an answer: beyond that the dask store drops rows, and the duckdb one needs ibis."""
    if stock == "duckdb":
        pytest.importorskip("ibis")
    rng = np.random.default_rng(0)
    moments = pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(rng.permutation(400), unit="min")
    frame = pd.DataFrame({"user_id": rng.integers(0, 20, 400), "surface": rng.choice(["feed", "search"], 400)})
    frame["event_timestamp"], frame["created_timestamp"] = moments, moments
    frame["clicks"], frame["rate"] = rng.integers(0, 50, 400), rng.random(400).astype("float32")
    (tmp_path / "files").mkdir()
    path = tmp_path / "files" / "a.parquet"
    pq.write_table(pa.Table.from_pandas(frame, schema=HISTORY, preserve_index=False), path)
    entity_rows = frame[["user_id", "surface"]].drop_duplicates().reset_index(drop=True)
    entity_rows["event_timestamp"] = pd.Timestamp("2026-01-01 06:40", tz="UTC") + pd.to_timedelta(
        entity_rows.index, unit="s"
    )
    entity_rows["row"] = entity_rows.index
    answers = []
    for name, offline in (("ours", ASOF), ("stock", stock)):
        (tmp_path / name).mkdir()
        store = make_store(tmp_path / name, [activity_view(path)], offline)
        result = store.get_historical_features(entity_rows.copy(), ["activity:clicks", "activity:rate"]).to_df()
        answers.append(result.sort_values("row").reset_index(drop=True)[["row", "clicks", "rate"]])
    assert answers[0]["clicks"].notna().all() and len(answers[0]) == len(entity_rows) > 30
    pd.testing.assert_frame_equal(answers[0], answers[1], check_dtype=False)


@pytest.fixture
def plain(store: FeatureStore, folder: Path) -> FeatureStore:
    rows = [(1, "feed", 1, 10), (1, "feed", 3, 30), (2, "search", 2, 20)]
    _move_in(
        folder,
        [
            {"user_id": u, "surface": s, "event_timestamp": at(h), "created_timestamp": at(h), "clicks": c, "rate": 0.5}
            for u, s, h, c in rows
        ],
    )
    return store


def test_takes_sql(plain: FeatureStore) -> None:
    sql = "SELECT 1 AS user_id, 'feed' AS surface, TIMESTAMP '2026-01-01 02:00:00' AS event_timestamp, 7 AS label"
    table = plain.get_historical_features(sql, ["activity:clicks"], full_feature_names=True).to_arrow()
    assert table.to_pylist() == [
        {"user_id": 1, "surface": "feed", "event_timestamp": at(2), "label": 7, "activity__clicks": 10}
    ]
    assert table.schema.field("event_timestamp").type == UTC_US


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
def test_any_unit_and_zone_of_the_clock(plain: FeatureStore, unit: str, zone: str | None) -> None:
    clock = pa.array([at(3)], UTC_US).cast(pa.timestamp(unit, zone or "UTC"))
    clock = clock if zone else clock.cast(pa.timestamp(unit))
    entity_rows = pa.table({"user_id": [1], "surface": ["feed"], "event_timestamp": clock})
    for given in (entity_rows, entity_rows.to_pandas()):
        table = plain.get_historical_features(given, ["activity:clicks"]).to_arrow()
        assert table["clicks"].to_pylist() == [30]
        assert table["event_timestamp"].to_pylist() == [at(3)]


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC"])
def test_any_unit_of_the_files(tmp_path: Path, unit: str, zone: str | None) -> None:
    moment = pa.timestamp(unit, zone)
    schema = pa.schema([field.with_type(moment) if field.type == UTC_US else field for field in HISTORY])
    rows = [
        {
            "user_id": 1,
            "surface": "feed",
            "event_timestamp": at(h),
            "created_timestamp": at(h),
            "clicks": h,
            "rate": 0.5,
        }
        for h in (1, 9)
    ]
    write_history(rows, tmp_path / "files")
    for path in (tmp_path / "files").rglob("*.parquet"):
        table = pq.read_table(path, partitioning=None)
        moments = {n: table[n].cast(pa.timestamp(unit, "UTC")).cast(moment) for n in schema.names if "stamp" in n}
        pq.write_table(pa.table({n: moments.get(n, table[n]) for n in schema.names}, schema=schema), path)
    store = make_store(tmp_path, [activity_view(tmp_path / "files", ttl=2 * HOUR)])
    entity_rows = pa.table(
        {"user_id": [1, 1], "surface": ["feed"] * 2, "event_timestamp": pa.array([at(3), at(8)], UTC_US)}
    )
    job = store.get_historical_features(entity_rows, ["activity:clicks"], filter_by_created_timestamp=True)
    assert job.to_arrow()["clicks"].to_pylist() == [1, None]
    assert store.get_historical_features(entity_rows, ["activity:clicks"]).to_arrow()["clicks"].to_pylist() == [1, None]
    store.materialize(at(0), at(10))
    online = store.get_online_features(["activity:clicks"], [{"user_id": 1, "surface": "feed"}]).to_dict()
    assert online["clicks"] == [9]


def test_renamed_and_mapped_keys(plain: FeatureStore) -> None:
    view = plain.get_feature_view("activity").with_name("viewer").with_join_key_map({"user_id": "viewer_id"})
    from feast import FeatureService

    plain.apply(FeatureService(name="mapped", features=[view]))
    clock = pa.array([at(5)] * 2, UTC_US)
    entity_rows = pa.table({"viewer_id": [1, 1], "surface": ["feed", "search"], "event_timestamp": clock})
    service = plain.get_feature_service("mapped")
    table = plain.get_historical_features(entity_rows, service, full_feature_names=True).to_arrow()
    assert table["viewer__clicks"].to_pylist() == [30, None]


def test_no_rows_and_no_timestamps(plain: FeatureStore) -> None:
    entity_rows = pa.table({"user_id": [1], "surface": ["feed"], "event_timestamp": pa.array([None], UTC_US)})
    assert plain.get_historical_features(entity_rows, ["activity:clicks"]).to_arrow()["clicks"].to_pylist() == [None]
    empty = plain.get_historical_features(entity_rows.slice(0, 0), ["activity:clicks"]).to_arrow()
    assert (empty.num_rows, empty.schema.field("clicks").type) == (0, pa.int64())


def _activity(*rows: tuple[int, float, float, int]) -> list[dict[str, object]]:
    return [
        {
            "user_id": u,
            "surface": "feed",
            "event_timestamp": at(t),
            "created_timestamp": at(c),
            "clicks": v,
            "rate": 0.5,
        }
        for u, t, c, v in rows
    ]


@pytest.mark.parametrize("engine", ["memory", "duckdb"])
def test_two_moments_that_become_known_at_once(tmp_path: Path, engine: str) -> None:
    """The row about the later moment is served, wherever it lies in the file."""
    for name, rows in (("first", ((1, 5, 5, 50), (1, 3, 5, 30))), ("last", ((1, 3, 5, 30), (1, 5, 5, 50)))):
        folder = tmp_path / name
        write_history(_activity(*rows), folder / "files")
        store = make_store(folder, [activity_view(folder / "files")])
        store.config.offline_store.engine = engine
        entity_rows = pa.table({"user_id": [1], "surface": ["feed"], "event_timestamp": pa.array([at(6)], UTC_US)})
        job = store.get_historical_features(entity_rows, ["activity:clicks"], filter_by_created_timestamp=True)
        assert job.to_arrow()["clicks"].to_pylist() == [50]


@pytest.mark.parametrize("engine", ["memory", "duckdb"])
def test_before_1970_and_no_moment_at_all(tmp_path: Path, engine: str) -> None:
    before = -500_000.0  # hours from 2026: in 1968
    write_history(_activity((1, before - 20_000, before - 20_000, 7), (1, 1, 1, 10)), tmp_path / "files")
    store = make_store(tmp_path, [activity_view(tmp_path / "files")])
    store.config.offline_store.engine = engine
    clock = pa.array([at(before), None, at(2)], UTC_US)
    entity_rows = pa.table({"user_id": [1] * 3, "surface": ["feed"] * 3, "event_timestamp": clock})
    answer = store.get_historical_features(entity_rows, ["activity:clicks"]).to_arrow()
    assert answer["clicks"].to_pylist() == [7, None, 10]


@pytest.mark.parametrize("kind", [pa.int64(), pa.string()])
def test_many_keys(tmp_path: Path, kind: pa.DataType) -> None:
    """More keys than sixteen bits tell apart, as numbers and as texts, against a dictionary."""
    rng = np.random.default_rng(0)
    keys, rows = rng.integers(0, 300_000, 150_000), 200_000
    minutes = rng.integers(0, 5, len(keys))
    clock = (np.datetime64("2026-01-01T00:00", "us") + minutes.astype("timedelta64[m]")).astype("datetime64[us]")
    newest: dict[int, tuple[int, int]] = {}
    for index, (key, minute) in enumerate(zip(keys.tolist(), minutes.tolist(), strict=True)):
        newest[key] = max(newest.get(key, (-1, -1)), (minute, index))
    columns = {"key": pa.array(keys).cast(kind), "event_timestamp": pa.array(clock), "place": np.arange(len(keys))}
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    key_field = Field(name="key", dtype=Int64 if kind == pa.int64() else String)
    entity = Entity(name="key", value_type=ValueType.INT64 if kind == pa.int64() else ValueType.STRING)
    source = FileSource(
        name="s", path=str(tmp_path / "rows.parquet"), file_format=ParquetFormat(), timestamp_field="event_timestamp"
    )
    fields = [key_field, Field(name="place", dtype=Int64)]
    view = FeatureView(name="v", entities=[entity], ttl=HOUR * 0, schema=fields, source=source)
    store = make_store(tmp_path, [entity, view])
    requested = rng.integers(0, 300_000, rows)
    given = pa.table({"key": pa.array(requested).cast(kind), "event_timestamp": pa.array([at(1)] * rows, UTC_US)})
    answer = store.get_historical_features(given, ["v:place"]).to_arrow()["place"].to_pylist()
    assert answer == [newest[key][1] if key in newest else None for key in requested.tolist()]
