"""Loading the online store a column at a time: the same answers as by Feast's own engine and store, of all types."""

import gc
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.types import Array, Bool, Bytes, Float32, Float64, Int32, Int64, String, UnixTimestamp
from feast.utils import _convert_arrow_to_proto

from feature_repo.loading import rows_of

START = datetime(2026, 1, 1, tzinfo=UTC)
NAN = float("nan")
STORE, ENGINE = "feature_repo.embedded.EmbeddedOnlineStore", "feature_repo.loading.LoadingEngine"
USER = Entity(name="user", join_keys=["user"], value_type=ValueType.INT64)
COLUMNS: dict[str, tuple[Any, pa.Array]] = {
    "count": (Int64, pa.array([1, None, 0, -(2**40)], pa.int64())),
    "small": (Int32, pa.array([7, 8, None, 9], pa.int16())),
    "rate": (Float32, pa.array([0.1, NAN, None, float("inf")], pa.float32())),
    "price": (Float64, pa.array([1e-300, 2.5, NAN, None], pa.float64())),
    "name": (String, pa.array(["", "größe", None, "a'b"], pa.string())),
    "long": (String, pa.array(["x", None, "y", "z"], pa.large_string())),
    "flag": (Bool, pa.array([True, False, None, True], pa.bool_())),
    "nothing": (Float32, pa.array([None] * 4, pa.float32())),
    "last": (Array(Int64), pa.array([[1, 2], [], None, [3]], pa.list_(pa.int64()))),
    "seen": (UnixTimestamp, pa.array([START, None, START, START], pa.timestamp("us", tz="UTC"))),
    "raw": (Bytes, pa.array([b"a", None, b"", b"b"], pa.binary())),
}


def table(**changes: pa.Array) -> pa.Table:
    times = pa.array([START + timedelta(hours=hour) for hour in range(4)], pa.timestamp("us", tz="UTC"))
    keys = pa.array([3, 1, 2, 2**60], pa.int64())
    values = {name: values for name, (_, values) in COLUMNS.items()}
    return pa.table({"user": keys, **values, "at": times, "made": times, **changes})


def view_of(path: Path, fields: dict[str, Any]) -> FeatureView:
    source = FileSource(name="rows", path=str(path), timestamp_field="at", created_timestamp_column="made")
    schema = [Field(name=name, dtype=dtype) for name, dtype in {"user": Int64, **fields}.items()]
    return FeatureView(name="mine", entities=[USER], schema=schema, source=source, ttl=timedelta(days=9))


def store_of(folder: Path, online: str, engine: str | None) -> tuple[FeatureStore, FeatureView]:
    """A store of its own over one file, and its view of all types."""
    folder.mkdir()
    pq.write_table(table(), folder / "rows.parquet")
    view = view_of(folder / "rows.parquet", {name: dtype for name, (dtype, _) in COLUMNS.items()})
    batch = {} if engine is None else {"batch_engine": {"type": engine}}
    config = RepoConfig(
        project="p", provider="local", registry=str(folder / "registry.db"), entity_key_serialization_version=3,
        online_store={"type": online, "path": str(folder / "online.db")},
        offline_store={"type": "feast_asof.store.AsofOfflineStore"},
        materialization={"pull_latest_features": True, "online_write_batch_size": 3}, **batch,
    )  # fmt: skip
    store = FeatureStore(config=config)
    store.apply([USER, view])
    return store, store.get_feature_view("mine")


def answers(store: FeatureStore, view: FeatureView, users: list[int], features: list[str] | None = None) -> list[Any]:
    """What the store itself answers: a time and protos for each user."""
    keys = [EntityKey(join_keys=["user"], entity_values=[Value(int64_val=user)]) for user in users]
    online = store._get_provider().online_store  # type: ignore[attr-defined]
    found: list[Any] = online.online_read(store.config, view, keys, features)
    return found


def test_all_answers_are_those_of_feasts_own_engine_and_store(tmp_path: Path) -> None:
    ours, view = store_of(tmp_path / "ours", STORE, ENGINE)
    theirs, _ = store_of(tmp_path / "theirs", "sqlite", None)
    users = [3, 1, 99, 2, 2**60, 3]
    for store in (ours, theirs):
        store.materialize(START - timedelta(days=1), START + timedelta(days=1))
    assert answers(ours, view, users) == answers(theirs, view, users)
    known = [answer for answer in answers(ours, view, users) if answer[1] is not None]
    assert len(known) == 5 and all(set(values) == set(COLUMNS) for _, values in known)
    # Newer rows take the place of what is there, older values are not left.
    changed = table(count=pa.array([5, 6, 7, 8], pa.int64()))
    for name, store in (("ours", ours), ("theirs", theirs)):
        pq.write_table(changed, tmp_path / name / "rows.parquet")
        store.materialize(START - timedelta(days=1), START + timedelta(days=1))
    assert answers(ours, view, users) == answers(theirs, view, users)
    features = ["mine:count", "mine:rate", "mine:last", "mine:name"]
    asked = [{"user": 3}, {"user": 2**60}, {"user": 99}]
    told = [store.get_online_features(features, entity_rows=asked).to_dict() for store in (ours, theirs)]
    assert str(told[0]) == str(told[1]) and told[0]["count"] == [5, 8, None]


@pytest.mark.parametrize("name", [*COLUMNS, "ints as floats", "floats as ints"])
def test_each_type_alone_gives_the_protos_of_feast(name: str) -> None:
    dtype, values = COLUMNS.get(name, (Float32, pa.array([1, 2, 3, 4], pa.int64())))
    if name == "floats as ints":
        dtype, values = Int64, pa.array([1.0, 2.0, None, 4.0], pa.float64())
    view = view_of(Path("rows.parquet"), {"value": dtype})
    (batch,) = table(value=values).to_batches()
    keys = {"user": ValueType.INT64}
    assert rows_of(batch, view, keys) == _convert_arrow_to_proto(batch, view, keys)


def test_whole_numbers_beyond_2_to_the_53_beside_nulls_are_kept() -> None:
    """Feast's own way takes such a column for one of floats."""
    values = pa.array([2**53 + 1, None, 2**62 + 1, 1], pa.int64())
    view = view_of(Path("rows.parquet"), {"value": Int64})
    (batch,) = table(value=values).to_batches()
    rows = rows_of(batch, view, {"user": ValueType.INT64})
    assert [row[1]["value"].int64_val for row in rows] == [2**53 + 1, 0, 2**62 + 1, 1]


def test_a_failed_load_raises_and_collects_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, view = store_of(tmp_path / "ours", STORE, ENGINE)

    def broken(*_: Any) -> Any:
        assert not gc.isenabled()
        raise OSError("no room")

    monkeypatch.setattr("feature_repo.online_rows._column", broken)
    with pytest.raises(OSError, match="no room"):
        store.materialize(START - timedelta(days=1), START + timedelta(days=1))
    assert gc.isenabled() and answers(store, view, [1]) == [(None, None)]
