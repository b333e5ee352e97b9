"""Rows that are pushed: every column under its name and with its values, or one sentence and nothing written."""

from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake
from feast import BatchFeatureView, Entity, FeatureStore, FeatureView, Field, FileSource, PushSource, ValueType
from feast.data_format import DeltaFormat, ParquetFormat
from feast.data_source import PushMode
from feast.types import Array, FeastType, Float32, Float64, Int64, Map, String

from feast_asof.errors import RetrievalError
from tests.feature_repo.test_asof_types import BIG, both, entity_rows, view_of, write
from tests.feature_repo.worlds import UTC_US, at, make_store

FORMS = ("file", "folder", "delta")
CLOCK = {"event_timestamp": pd.to_datetime([at(5)] * 2, utc=True)}


def source_of(folder: Path, form: str, held: pa.Table | None, **more: object) -> FileSource:
    """A source of one file, a folder or a Delta table that holds a table."""
    path = folder / ("one.parquet" if form == "file" else form)
    if held is not None:
        if form == "delta":
            write_deltalake(path, held)
        else:
            file = path if form == "file" else path / "a.parquet"
            file.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(held, file)
    kind = DeltaFormat() if form == "delta" else ParquetFormat()
    return FileSource(name="s", path=str(path), **{"file_format": kind, "timestamp_field": "event_timestamp", **more})


def pushed_to(folder: Path, source: FileSource, *views: Mapping[str, FeastType]) -> FeatureStore:
    """A store with a view for each set of features, all on one push source."""
    push = PushSource(name="push", batch_source=source)
    user = Entity(name="user_id", value_type=ValueType.INT64)
    made = [
        FeatureView(
            name=f"v{i}",
            entities=[user],
            schema=[Field(name="user_id", dtype=Int64), *(Field(name=n, dtype=t) for n, t in fields.items())],
            source=push,
        )
        for i, fields in enumerate(views)
    ]
    return make_store(folder / "repo", [push, *made])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("first", [False, True])
def test_two_views_on_one_source(form: str, first: bool, tmp_path: Path) -> None:
    held = entity_rows([1], 1, a=[5], b=[50])
    source = source_of(tmp_path, form, None if first else held)
    store = pushed_to(tmp_path, source, {"a": Int64}, {"b": Int64})
    frame = pd.DataFrame({"user_id": [2, 3], **CLOCK, "a": [6, 7], "b": [60, 70]})
    store.push("push", frame, to=PushMode.ONLINE_AND_OFFLINE)
    answer = both(store, entity_rows([1, 2, 3]), ["v0:a", "v1:b"])
    old = (None, None) if first else (5, 50)
    assert answer["a"].to_pylist() == [old[0], 6, 7] and answer["b"].to_pylist() == [old[1], 60, 70]
    store.materialize(at(0), at(9))
    rows = [{"user_id": 2}, {"user_id": 3}]
    online = store.get_online_features(["v0:a", "v1:b"], rows).to_dict()
    assert (online["a"], online["b"]) == ([6, 7], [60, 70])
    if form == "folder":  # the same rows once, whichever view brought them
        assert len(list((tmp_path / "folder").glob("pushed-*"))) == 1


MAP = pa.map_(pa.string(), pa.string())
HELD: dict[str, tuple[FeastType, pa.Array, list[object], list[object]]] = {
    "dictionary": (String, pa.array(["a"]).dictionary_encode(), ["b", None], ["b", None]),
    "categories": (String, pa.array(["a"]), list(pd.Categorical(["b", "a"])), ["b", "a"]),
    "narrow": (Int64, pa.array([1], pa.int16()), [3, BIG], [3, BIG]),
    "float of ints": (Int64, pa.array([1]), [3.0, None], [3, None]),
    "double": (Float32, pa.array([1.5], pa.float32()), [0.5, 2.0], [0.5, 2.0]),
    "wider than declared": (Float32, pa.array([1.5]), [0.1, 1e300], [0.1, 1e300]),
    "list": (Array(Int64), pa.array([[1]], pa.large_list(pa.int32())), [[2], []], [[2], []]),
    "list of doubles": (Array(Float32), pa.array([[1.5]], pa.list_(pa.float32())), [[2.5], None], [[2.5], None]),
    "map": (
        Map,
        pa.array([[("a", "b")]], pa.map_(pa.string(), pa.string())),
        [{"c": "d"}, {"e": "f"}],
        [[("c", "d")], [("e", "f")]],
    ),
    "struct": (Map, pa.array([{"a": "b"}]), [{"a": "c"}, {"a": "d"}], [{"a": "c"}, {"a": "d"}]),
    "struct with a field more": (Map, pa.array([{"a": "b"}]), [{"c": "d"}, None], [{"a": None, "c": "d"}, None]),
    "nulls": (Float64, pa.nulls(1), [0.5, None], [0.5, None]),
}


@pytest.mark.parametrize("form", ["file", "folder"])
@pytest.mark.parametrize("kind", HELD)
def test_values_into_what_is_held(kind: str, form: str, tmp_path: Path) -> None:
    declared, held, values, wanted = HELD[kind]
    source = source_of(tmp_path, form, entity_rows([1], 1, x=held))
    store = pushed_to(tmp_path, source, {"x": declared})
    frame = pd.DataFrame({"user_id": [2, 3], **CLOCK, "x": pd.Series(values)})
    store.push("push", frame, to=PushMode.OFFLINE)
    assert both(store, entity_rows([2, 3]), ["v0:x"])["x"].to_pylist() == wanted
    kept = both(store, entity_rows([1]), ["v0:x"])["x"].to_pylist()
    assert kept == held.to_pylist() or kind == "struct with a field more"


CLOCKS = [
    pa.timestamp("ns"),
    pa.timestamp("us"),
    UTC_US,
    pa.timestamp("ms", "UTC"),
    pa.timestamp("ns", "America/New_York"),
    pa.date32(),
]


GIVEN = ("naive", "aware", "another zone", "nanoseconds", "dates")
CLOCKS_AND_FORMS = [  # each pair of clocks in a file; each clock that is held, and each that is given, in a folder
    *((held, given, "file") for held in CLOCKS for given in GIVEN),
    *((held, GIVEN[place % len(GIVEN)], "folder") for place, held in enumerate(CLOCKS)),
]


@pytest.mark.parametrize(("held", "given", "form"), CLOCKS_AND_FORMS)
def test_clocks_into_what_is_held(held: pa.DataType, given: str, form: str, tmp_path: Path) -> None:
    old = pa.array([at(0)], UTC_US)
    old = old.cast(held, safe=False) if pa.types.is_timestamp(held) else old.cast(pa.timestamp("us")).cast(held)
    table = pa.table({"user_id": [1], "event_timestamp": old, "x": [1]})
    store = pushed_to(tmp_path, source_of(tmp_path, form, table), {"x": Int64})
    moments = {
        "naive": pd.Series(pd.to_datetime([at(5.5)], utc=True).tz_localize(None)),
        "aware": pd.Series(pd.to_datetime([at(5.5)], utc=True)),
        "another zone": pd.Series(pd.to_datetime([at(5.5)], utc=True).tz_convert("Asia/Kolkata")),
        "nanoseconds": pd.Series(pd.to_datetime([1_767_225_600_000_000_000 + int(5.5 * 3.6e12) + 1], utc=True)),
        "dates": pd.Series([date(2026, 1, 2)]),
    }
    frame = pd.DataFrame({"user_id": [2], "event_timestamp": moments[given], "x": [2]})
    store.push("push", frame, to=PushMode.OFFLINE)
    known = 24 if given == "dates" else 5.5
    assert both(store, entity_rows([1, 2], known), ["v0:x"])["x"].to_pylist() == [1, 2]
    assert both(store, entity_rows([1, 2], known - 0.001), ["v0:x"])["x"].to_pylist() == [1, None]


@pytest.mark.parametrize("form", ["file", "folder"])
def test_what_would_be_lost_is_refused(form: str, tmp_path: Path) -> None:
    source = source_of(tmp_path, form, entity_rows([1], 1, x=[1]))
    store = pushed_to(tmp_path, source, {"x": Int64})
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.parquet")}
    for value in (0.5, "seven"):
        frame = pd.DataFrame({"user_id": [2], "event_timestamp": pd.to_datetime([at(5)], utc=True), "x": [value]})
        with pytest.raises(RetrievalError, match="view 'v0': column 'x' of the rows to write is .*int64.*give it"):
            store.push("push", frame, to=PushMode.OFFLINE)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.parquet")} == before


MAPPED = {"usr": "user_id", "ts_1": "ts", "made": "created", "raw": "clicks"}


def mapped_view(source: FileSource, push: bool) -> list[object]:
    stream = PushSource(name="push", batch_source=source)
    view = FeatureView(
        name="v",
        entities=[Entity(name="user_id", value_type=ValueType.INT64)],
        schema=[Field(name="user_id", dtype=Int64), Field(name="clicks", dtype=Int64)],
        source=stream if push else source,
    )
    return [stream, view] if push else [view]


@pytest.mark.parametrize("form", FORMS)
def test_mapped_names(form: str, tmp_path: Path) -> None:
    """Key, both clocks and a feature are called otherwise in the files."""
    moments = pa.array([at(1), at(1)], UTC_US)
    held = pa.table({"usr": [1, 1], "ts_1": moments, "made": pa.array([at(3), at(1)], UTC_US), "raw": [6, 5]})
    clocks = {"timestamp_field": "ts", "created_timestamp_column": "created", "field_mapping": MAPPED}
    source = source_of(tmp_path, form, held, **clocks)
    store = make_store(tmp_path / "repo", mapped_view(source, push=False))
    late = both(store, entity_rows([1], 2), ["v:clicks"], filter_by_created_timestamp=True)
    assert (late["clicks"].to_pylist(), both(store, entity_rows([1], 2), ["v:clicks"])["clicks"].to_pylist()) == (
        [5],
        [6],
    )
    window = store.get_historical_features(None, ["v:clicks"], start_date=at(0), end_date=at(9)).to_arrow()
    assert window.select(["user_id", "clicks"]).to_pylist() == [{"user_id": 1, "clicks": 6}]
    store.materialize(at(0), at(9))
    assert store.get_online_features(["v:clicks"], [{"user_id": 1}]).to_dict()["clicks"] == [6]
    offline, view = store._get_provider().offline_store, store.get_feature_view("v")

    pushing = make_store(tmp_path / "pushing", mapped_view(source, push=True))
    frame = pd.DataFrame({"usr": [2], "ts_1": [at(5)], "made": [at(5)], "raw": [7]})
    pushing.push("push", frame, to=PushMode.OFFLINE)
    offline.offline_write_batch(  # as compute engines do: by the views' names
        store.config, view, pa.table({"user_id": [3], "ts": [at(5)], "created": [at(5)], "clicks": [8]}), None
    )
    answer = both(pushing, entity_rows([1, 2, 3]), ["v:clicks"])
    assert answer["clicks"].to_pylist() == [6, 7, 8]
    pulled = offline.pull_all_from_table_or_query(store.config, view.batch_source, ["usr"], ["raw"], "ts_1", "made")
    table = pulled.to_arrow()
    assert table.column_names == ["usr", "raw", "ts_1", "made"] and table["ts_1"].null_count == 0
    twice = pa.table({"user_id": [3], "ts": [at(5)], "ts_1": [at(5)], "created": [at(5)], "clicks": [8]})
    with pytest.raises(RetrievalError, match="both its names"):
        offline.offline_write_batch(store.config, view, twice, None)


def test_a_mapping_of_what_is_not_there(tmp_path: Path) -> None:
    source = source_of(tmp_path, "folder", entity_rows([1], 1, x=[1]), field_mapping={"nowhere": "event_timestamp"})
    store = pushed_to(tmp_path, source, {"x": Int64})
    store.push("push", pd.DataFrame({"user_id": [2, 3], **CLOCK, "x": [2, 3]}), to=PushMode.OFFLINE)
    assert both(store, entity_rows([1, 2]), ["v0:x"])["x"].to_pylist() == [1, 2]


def test_a_view_without_entities(tmp_path: Path) -> None:
    clock = pa.array([at(1), at(3)], UTC_US)
    source = source_of(tmp_path, "folder", pa.table({"event_timestamp": clock, "x": [1, 3]}))
    push = PushSource(name="push", batch_source=source)
    view = FeatureView(name="everyone", entities=[], schema=[Field(name="x", dtype=Int64)], source=push)
    store = make_store(tmp_path / "repo", [push, view])
    for latest in (True, False):
        store.config.materialization_config.pull_latest_features = latest
        store.materialize(at(0), at(9))
        assert store.get_online_features(["everyone:x"], [{"user_id": 1}]).to_dict()["x"] == [3]
    store.push("push", pd.DataFrame({"event_timestamp": [at(5)], "x": [5]}), to=PushMode.ONLINE_AND_OFFLINE)
    assert both(store, entity_rows([1, 2], 5), ["everyone:x"])["x"].to_pylist() == [5, 5]


def test_a_batch_view_that_computes(tmp_path: Path) -> None:
    """Its transformation is given all columns of the source; its result may go to a source of its own."""
    write(tmp_path / "f" / "a.parquet", 1, [1, 2], a=[1, 2], b=[10.0, 20.0])
    write(tmp_path / "f" / "b.parquet", 3, [1], a=[5], b=[30.0])
    plain = view_of(tmp_path / "f", {"a": Int64, "b": Float64}, "plain")
    sink = FileSource(
        name="sink", path=str(tmp_path / "sink"), file_format=ParquetFormat(), timestamp_field="event_timestamp"
    )
    fields = [Field(name="user_id", dtype=Int64), Field(name="c", dtype=Float64)]
    entities = [Entity(name="user_id", value_type=ValueType.INT64)]
    common = {"entities": entities, "schema": fields, "mode": "pandas", "udf_string": "", "online": True}

    def computed(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.assign(c=frame["a"] + frame["b"])

    direct = BatchFeatureView(name="direct", source=plain.batch_source, udf=computed, **common)
    kept = BatchFeatureView(name="kept", source=plain, sink_source=sink, offline=True, udf=computed, **common)
    engine = {"type": "local", "backend": "pandas"}
    store = make_store(tmp_path / "repo", [plain, direct, kept], batch_engine=engine)
    store.materialize(at(0), at(9), feature_views=["direct", "kept"])
    for view in ("direct", "kept"):
        online = store.get_online_features([f"{view}:c"], [{"user_id": 1}, {"user_id": 2}]).to_dict()
        assert online["c"] == [35.0, 22.0]
    assert both(store, entity_rows([1, 2, 3]), ["kept:c"])["c"].to_pylist() == [35.0, 22.0, None]


def test_a_stream_as_feast_init_pushes_it(tmp_path: Path) -> None:
    """Naive clocks, doubles for floats, dicts, JSON and arrays, into a file that pandas wrote."""

    def rows(user: int, moment: datetime) -> pd.DataFrame:
        values = {
            "rate": [0.5],
            "trips": np.array([4], np.int32),
            "meta": [{"kind": "suv"}],
            "config": ['{"a": 1}'],
        }
        return pd.DataFrame({"user_id": [user], "event_timestamp": [moment], **values, "ads": [np.array([1, 2])]})

    (tmp_path / "one").mkdir()
    rows(1, at(1).replace(tzinfo=None)).to_parquet(tmp_path / "one" / "one.parquet")
    fields = {"rate": Float32, "trips": Int64, "meta": Map, "config": String, "ads": Array(Int64)}
    store = pushed_to(tmp_path, source_of(tmp_path / "one", "file", None), fields)
    for user, moment in ((2, at(2)), (3, at(3).replace(tzinfo=None))):
        store.push("push", rows(user, moment), to=PushMode.ONLINE_AND_OFFLINE)
    answer = both(store, entity_rows([1, 2, 3]), [f"v0:{name}" for name in fields])
    assert answer["rate"].to_pylist() == [0.5] * 3 and answer["ads"].to_pylist() == [[1, 2]] * 3
    assert answer["meta"].to_pylist() == [{"kind": "suv"}] * 3
