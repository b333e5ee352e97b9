"""Types: whatever files and entity rows hold, both engines give the same table, and no value loses digits."""

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType
from feast.data_format import ParquetFormat
from feast.types import Array, Bytes, FeastType, Float32, Float64, Int64, Json, Map, String, Struct, UnixTimestamp

from feast_asof.casting import common_type, fit
from feast_asof.errors import RetrievalError
from tests.feature_repo.worlds import UTC_US, at, make_store

BIG = 2**60 + 1
ENGINES = ("memory", "duckdb")


def view_of(folder: Path, fields: Mapping[str, FeastType], name: str = "v", **source: object) -> FeatureView:
    return FeatureView(
        name=name,
        entities=[Entity(name="user_id", value_type=ValueType.INT64)],
        schema=[Field(name="user_id", dtype=Int64), *(Field(name=key, dtype=dtype) for key, dtype in fields.items())],
        source=FileSource(
            name=f"{name}_source",
            path=str(folder),
            **{"file_format": ParquetFormat(), "timestamp_field": "event_timestamp", **source},
        ),
    )


def write(path: Path, hour: float, users: list[int] | pa.Array, **columns: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    clock = pa.array([at(hour)] * len(users), UTC_US)
    pq.write_table(pa.table({"user_id": users, "event_timestamp": clock, **columns}), path)


def entity_rows(users: list[int] | pa.Array, hour: float = 9, **columns: object) -> pa.Table:
    return pa.table({"user_id": users, "event_timestamp": pa.array([at(hour)] * len(users), UTC_US), **columns})


def both(store: FeatureStore, rows: object, features: list[str], **options: object) -> pa.Table:
    """The answer, the same of both engines to the type."""
    answers = []
    for engine in ENGINES:
        store.config.offline_store.engine = engine
        answers.append(store.get_historical_features(rows, features, **options).to_arrow())
    assert answers[0].schema.equals(answers[1].schema), f"{answers[0].schema}\n{answers[1].schema}"
    assert answers[0].to_pylist() == answers[1].to_pylist()
    return answers[0]


STRUCT = pa.struct([("a", pa.int64()), ("b", pa.string())])
FEATURES: dict[str, tuple[FeastType, pa.Array, list[object]]] = {
    "list": (Array(Int64), pa.array([[1, BIG], []], pa.list_(pa.int64())), [[1, BIG], []]),
    "large list": (Array(Float32), pa.array([[1.5], None], pa.large_list(pa.float64())), [[1.5], None]),
    "list of moments": (Array(UnixTimestamp), pa.array([[at(1)], []], pa.list_(UTC_US)), [[at(1)], []]),
    "bytes": (Bytes, pa.array([b"a", None]), [b"a", None]),
    "json": (Json, pa.array(["{}", None], pa.large_string()), ["{}", None]),
    "map": (Map, pa.array([[("a", "b")], []], pa.map_(pa.string(), pa.string())), [[("a", "b")], []]),
    "struct": (
        Struct({"a": Int64, "b": String}),
        pa.array([{"a": 1, "b": "x"}, None], STRUCT),
        [{"a": 1, "b": "x"}, None],
    ),
    "wide float": (Float32, pa.array([0.1, 1e300]), [0.1, 1e300]),
    "category": (Int64, pa.array([7, None]).dictionary_encode(), [7, None]),
    "nulls": (Array(String), pa.nulls(2), [None, None]),
    "day": (UnixTimestamp, pa.array([date(2026, 1, 1), None]), [at(0), None]),
}


@pytest.mark.parametrize("kind", FEATURES)
def test_features_of_any_type(kind: str, tmp_path: Path) -> None:
    declared, stored, wanted = FEATURES[kind]
    write(tmp_path / "f" / "a.parquet", 1, [1, 2], x=stored)
    store = make_store(tmp_path, [view_of(tmp_path / "f", {"x": declared})])
    assert both(store, entity_rows([1, 2, 3]), ["v:x"])["x"].to_pylist() == [*wanted, None]
    assert both(store, entity_rows([]), ["v:x"]).num_rows == 0


GIVEN: dict[str, pa.Array] = {
    "category": pa.array(["a", "b"]).dictionary_encode(),
    "large string": pa.array(["a", "b"], pa.large_string()),
    "int8": pa.array([1, None], pa.int8()),
    "uint64": pa.array([2**63 + 1, 0], pa.uint64()),
    "decimal": pa.array([Decimal("1.25"), None], pa.decimal128(9, 2)),
    "date": pa.array([date(2026, 1, 1), None]),
    "naive": pa.array([at(1).replace(tzinfo=None), None], pa.timestamp("ns")),
    "another zone": pa.array([at(1), None], pa.timestamp("ms", "America/New_York")),
    "list": pa.array([[BIG, None], []]),
    "struct": pa.array([{"a": BIG}, None]),
    "null": pa.nulls(2),
}


@pytest.mark.parametrize("kind", GIVEN)
def test_entity_columns_of_any_type(kind: str, tmp_path: Path) -> None:
    write(tmp_path / "f" / "a.parquet", 1, [1, 2], x=[5, 6])
    store = make_store(tmp_path, [view_of(tmp_path / "f", {"x": Int64})])
    given = entity_rows([2, 1], label=GIVEN[kind])
    answer = both(store, given, ["v:x"])
    assert answer["x"].to_pylist() == [6, 5]
    assert answer["label"].type == GIVEN[kind].type and answer["label"].to_pylist() == GIVEN[kind].to_pylist()


@pytest.mark.parametrize("first", ["empty lists", "nulls", "narrow", "none"])
@pytest.mark.parametrize("oldest", [True, False])
def test_lists_whose_files_differ(first: str, oldest: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    some = {
        "empty lists": pa.array([[], []]),
        "nulls": pa.nulls(2),
        "narrow": pa.array([[1], []], pa.list_(pa.int32())),
    }
    names = ("a", "b") if oldest else ("b", "a")
    write(tmp_path / "f" / f"{names[0]}.parquet", 0, [1, 2], **({} if first == "none" else {"x": some[first]}))
    write(tmp_path / "f" / f"{names[1]}.parquet", 5, [1, 3], x=pa.array([[11, 12], [BIG]]))
    store = make_store(tmp_path, [view_of(tmp_path / "f", {"x": Array(Int64)})])
    old = {"empty lists": [[], []], "nulls": [None, None], "narrow": [[1], []], "none": [None, None]}[first]
    wanted = [[11, 12], old[1], [BIG]]
    assert both(store, entity_rows([1, 2, 3]), ["v:x"])["x"].to_pylist() == wanted
    assert both(store, entity_rows([1, 2], 1), ["v:x"])["x"].to_pylist() == old
    from feast_asof import turns

    monkeypatch.setattr(turns, "_TURN", 1)
    monkeypatch.setattr(turns, "_MANY", 0)  # a file a turn
    assert both(store, entity_rows([1, 2, 3]), ["v:x"])["x"].to_pylist() == wanted


def test_integers_whose_files_differ_in_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from feast_asof import turns

    monkeypatch.setattr(turns, "_TURN", 1)
    monkeypatch.setattr(turns, "_MANY", 0)
    write(tmp_path / "f" / "a.parquet", 0, [1], x=pa.array([1], pa.int8()))
    write(tmp_path / "f" / "b.parquet", 1, [2], x=pa.array([BIG]))
    store = make_store(tmp_path, [view_of(tmp_path / "f", {"x": Int64})])
    assert both(store, entity_rows([1, 2]), ["v:x"])["x"].to_pylist() == [1, BIG]


@pytest.mark.parametrize("where", ["files", "rows", "both"])
def test_integer_keys_as_categories(where: str, tmp_path: Path) -> None:
    users = pa.array([7, 8])
    coded = users.dictionary_encode()
    write(tmp_path / "f" / "a.parquet", 1, users if where == "rows" else coded, x=[5, 6])
    store = make_store(tmp_path, [view_of(tmp_path / "f", {"x": Int64})])
    given = entity_rows(users if where == "files" else coded)
    assert both(store, given, ["v:x"])["x"].to_pylist() == [5, 6]
    store.materialize(at(0), at(9))
    assert store.get_online_features(["v:x"], [{"user_id": 8}]).to_dict()["x"] == [6]


UNTYPED: list[dict[str, object]] = [
    {"data": {"user_id": [], "event_timestamp": []}},
    {"columns": ["user_id", "event_timestamp"]},
]


@pytest.mark.parametrize("untyped", UNTYPED)
def test_an_empty_frame_without_types(untyped: dict[str, object], tmp_path: Path) -> None:
    write(tmp_path / "f" / "a.parquet", 1, [1], x=[5])
    store = make_store(tmp_path, [view_of(tmp_path / "f", {"x": Int64})])
    answer = both(store, pd.DataFrame(**untyped), ["v:x"])
    assert answer.num_rows == 0 and answer.schema.field("x").type == pa.int64()


def test_ids_beside_a_null_in_pandas(tmp_path: Path) -> None:
    write(
        tmp_path / "f" / "a.parquet",
        1,
        [1, 2],
        last_ad=pa.array([BIG, None], pa.int64()),
        ads=pa.array([[BIG, None], None]),
    )
    store = make_store(tmp_path, [view_of(tmp_path / "f", {"last_ad": Int64, "ads": Array(Int64)})])
    small = pa.array([1, None, 2], pa.int32())
    given = entity_rows([1, 2, 3], session=pa.array([BIG, None, 2**64 - 1], pa.uint64()), small=small)
    frame = store.get_historical_features(given, ["v:last_ad", "v:ads"]).to_df()
    assert frame["last_ad"].dtype == "Int64" and frame["last_ad"].tolist() == [BIG, pd.NA, pd.NA]
    assert frame["session"].dtype == "UInt64" and frame["session"][2] == 2**64 - 1
    assert list(frame["ads"][0]) == [BIG, None]
    assert frame["user_id"].dtype == "int64" and frame["small"].dtype == "float64"


def test_a_column_added_later(tmp_path: Path) -> None:
    write(tmp_path / "f" / "a.parquet", 0, [1, 2], x=[1, 2])
    write(tmp_path / "f" / "b.parquet", 5, [1], x=[10], y=[0.5])
    store = make_store(tmp_path, [view_of(tmp_path / "f", {"x": Int64, "y": Float64})])
    assert both(store, entity_rows([1, 2]), ["v:x", "v:y"]).select(["x", "y"]).to_pylist() == [
        {"x": 10, "y": 0.5},
        {"x": 2, "y": None},
    ]
    store.materialize(at(-1), at(9))
    assert store.get_online_features(["v:y"], [{"user_id": 1}, {"user_id": 2}]).to_dict()["y"] == [0.5, None]
    write(tmp_path / "f" / "c.parquet", 7, [1], x=[20])  # the newest rows lost it: that is no evolution
    with pytest.raises(RetrievalError, match="column 'y' is not in '.*c.parquet'"):
        store.get_historical_features(entity_rows([1]), ["v:y"]).to_arrow()


def _chunked(values: list[object], dtype: pa.DataType | None = None) -> pa.ChunkedArray:
    """Two chunks, one of them a slice, so that offsets matter."""
    array = pa.array([values[0], *values], dtype)
    return pa.chunked_array([array.slice(1, 1), array.slice(2)])


FITS: list[tuple[list[object], pa.DataType | None, pa.DataType, list[object]]] = [
    ([1.0, None], None, pa.int64(), [1, None]),
    ([[1.0], None, []], None, pa.large_list(pa.int32()), [[1], None, []]),
    ([{"a": 1}, None], None, STRUCT, [{"a": 1, "b": None}, None]),
    ([{"a": "x", "b": None}, None], None, pa.map_(pa.string(), pa.string()), [[("a", "x")], None]),
    (["a", "b"], None, pa.dictionary(pa.int8(), pa.string()), ["a", "b"]),
    ([at(0), None], UTC_US, pa.date32(), [at(0).date(), None]),
    ([at(1).replace(tzinfo=None)], pa.timestamp("ns"), UTC_US, [at(1)]),
    ([[at(1)]], pa.list_(pa.timestamp("ns", "UTC")), pa.list_(UTC_US), [[at(1)]]),
    ([b"ab"], pa.large_binary(), pa.binary(2), [b"ab"]),
]


@pytest.mark.parametrize(("values", "given", "wanted", "kept"), FITS)
def test_what_fits(values: list[object], given: pa.DataType, wanted: pa.DataType, kept: list[object]) -> None:
    fitted = fit(_chunked(values, given), wanted)
    assert fitted.type == wanted and fitted.to_pylist() == kept


LOST: list[tuple[list[object], pa.DataType | None, pa.DataType]] = [
    ([1.5], None, pa.int64()),
    ([300], None, pa.int8()),
    ([1e300], None, pa.float32()),
    ([at(1)], UTC_US, pa.date32()),
    ([at(0.000001)], UTC_US, pa.timestamp("s", "UTC")),
    ([{"a": 1, "c": 2}], None, STRUCT),
    ([["x"]], None, pa.list_(pa.int64())),
    (["1"], None, pa.int64()),
    ([2**53 + 1], None, pa.float64()),
    ([True], None, pa.int64()),
    ([[1]], None, pa.map_(pa.string(), pa.string())),
]


@pytest.mark.parametrize(("values", "given", "wanted"), LOST)
def test_what_would_be_lost_is_refused(values: list[object], given: pa.DataType, wanted: pa.DataType) -> None:
    with pytest.raises(pa.ArrowInvalid):
        fit(_chunked(values, given), wanted)


def test_types_in_common() -> None:
    assert common_type([]) == common_type([pa.null()]) == pa.null()
    assert common_type([pa.null(), pa.dictionary(pa.int8(), pa.string()), pa.string()]) == pa.string()
    assert common_type([pa.list_(pa.int32()), pa.list_(pa.int64())]) == pa.list_(pa.int64())
    assert common_type([pa.list_(pa.int32()), pa.string()]) is None
