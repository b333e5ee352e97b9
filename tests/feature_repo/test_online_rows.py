"""A view in the embedded online store: what it keeps through changes, and Feast's own store as the reference."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.types import Array, Bool, Float32, Int64, String

from feast_asof.errors import RetrievalError
from feature_repo.online_rows import OnlineTable, _keys, column_of

AT = datetime(2026, 1, 1, 12, 30, 0, 5, tzinfo=UTC)
STORE = "feature_repo.embedded.EmbeddedOnlineStore"
USER = Entity(name="user", join_keys=["user"], value_type=ValueType.INT64)


def view_of(fields: dict[str, Any], **named: Any) -> FeatureView:
    source = FileSource(name="rows", path="rows.parquet", timestamp_field="at")
    schema = [Field(name=name, dtype=dtype) for name, dtype in {"user": Int64, **fields}.items()]
    return FeatureView(name="mine", entities=[USER], schema=schema, source=source, **named)


class Online:
    """An online store over one file, whatever its views are."""

    def __init__(self, folder: Path, type_: str = STORE, **block: Any) -> None:
        folder.mkdir(exist_ok=True)
        self.file = folder / "online.db"
        config = RepoConfig(
            project="p", provider="local", registry=str(folder / "registry.db"), entity_key_serialization_version=3,
            online_store={"type": type_, "path": str(self.file), **block},
        )  # fmt: skip
        self.config = config
        self.store = FeatureStore(config=config)._get_provider().online_store  # type: ignore[attr-defined]

    def apply(self, view: FeatureView, gone: list[FeatureView] | None = None) -> None:
        self.store.update(self.config, gone or [], [view], [], [], True)

    def write(self, view: FeatureView, rows: dict[int, dict[str, Value]]) -> None:
        data = [(key(user), values, AT, None) for user, values in rows.items()]
        self.store.online_write_batch(self.config, view, data, progress=None)

    def read(self, view: FeatureView, users: list[int], features: list[str] | None = None) -> list[Any]:
        found: list[Any] = self.store.online_read(self.config, view, [key(user) for user in users], features)
        return found


def key(user: int) -> EntityKey:
    return EntityKey(join_keys=["user"], entity_values=[Value(int64_val=user)])


def test_a_row_keeps_time_and_values_and_an_unknown_key_has_none(tmp_path: Path) -> None:
    view = view_of({"clicks": Int64, "name": String, "flag": Bool})
    online = Online(tmp_path)
    values = {"clicks": Value(int64_val=2**53 + 1), "name": Value(string_val="007"), "flag": Value(bool_val=False)}
    online.write(view, {7: values})
    assert online.read(view, [7, 8, 7]) == [(AT, values), (None, None), (AT, values)]
    assert online.read(view, [7], ["name"]) == [(AT, {"name": values["name"]})]
    with sqlite3.connect(online.file) as connection:  # as a shell shows it
        assert connection.execute('SELECT clicks, name FROM "p_mine:rows"').fetchall() == [(2**53 + 1, "007")]


def test_a_row_of_some_features_leaves_the_others(tmp_path: Path) -> None:
    view = view_of({"clicks": Int64, "views": Int64})
    online = Online(tmp_path)
    online.write(view, {1: {"clicks": Value(int64_val=1), "views": Value(int64_val=2)}})
    online.write(view, {1: {"views": Value(int64_val=3)}, 2: {"clicks": Value(int64_val=4)}})
    assert [values["clicks"].int64_val for _, values in online.read(view, [1, 2])] == [1, 4]
    assert [values["views"] for _, values in online.read(view, [1, 2])] == [Value(int64_val=3), Value()]


def test_the_table_follows_its_view(tmp_path: Path) -> None:
    online = Online(tmp_path)
    first = view_of({"clicks": Int64, "views": Int64, "kind": Int64})
    online.write(first, {1: {name: Value(int64_val=5) for name in ("clicks", "views", "kind")}})
    changed = view_of({"clicks": Int64, "kind": String, "new": Float32})
    online.apply(changed)
    assert online.read(changed, [1]) == [(AT, {"clicks": Value(int64_val=5), "kind": Value(), "new": Value()})]
    online.apply(first)
    assert online.read(first, [1])[0][1]["views"] == Value()  # it was forgotten, not kept out of sight
    online.apply(view_of({"clicks": Int64}, tags={}), gone=[first])
    assert online.read(first.with_name("mine"), [1], ["clicks"]) == [(None, None)]


def test_names_that_differ_by_case_are_two_features(tmp_path: Path) -> None:
    names = [
        "userid",
        "userId",
        "USERID",
        "userid$20",
        "größe",
        "GRÖßE",
        "$key",
        "$event",
        'a"b',
        "select",
        "user-item 0",
    ]
    assert len({column_of(name).lower() for name in names}) == len(names)
    view = view_of({name: Int64 for name in names})
    online = Online(tmp_path)
    values = {name: Value(int64_val=at) for at, name in enumerate(names)}
    online.write(view, {1: values})
    assert online.read(view, [1]) == [(AT, values)]


def test_more_keys_than_a_statement_takes(tmp_path: Path) -> None:
    view, many = view_of({"clicks": Int64}), 33_000
    online = Online(tmp_path)
    online.write(view, {user: {"clicks": Value(int64_val=user)} for user in range(0, many, 2)})
    found = online.read(view, list(range(many)))
    assert [None if values is None else values["clicks"].int64_val for _, values in found] == [
        user if user % 2 == 0 else None for user in range(many)
    ]


@pytest.mark.parametrize(
    ("kinds", "values"),
    [
        ({"user": ValueType.INT64}, {"user": pa.array([0, -1, 2**62], pa.int64())}),
        ({"user": ValueType.INT64}, {"user": pa.array([1, 2], pa.int32())}),
        ({"user": ValueType.INT32}, {"user": pa.array([1, 2], pa.int32())}),
        ({"name": ValueType.STRING}, {"name": pa.array(["", "größe", "a"], pa.large_string())}),
        (
            {"b": ValueType.INT64, "a": ValueType.STRING},
            {"b": pa.array([1, 2], pa.int64()), "a": pa.array(["x", "y"])},
        ),
    ],
)
def test_keys_are_feasts(kinds: dict[str, ValueType], values: dict[str, pa.Array]) -> None:
    (batch,) = pa.table(values).to_batches()
    fields = {ValueType.INT64: "int64_val", ValueType.INT32: "int32_val", ValueType.STRING: "string_val"}
    expected = [
        serialize_entity_key(
            EntityKey(
                join_keys=list(kinds),
                entity_values=[Value(**{fields[kinds[name]]: row[name]}) for name in kinds],
            ),
            entity_key_serialization_version=3,
        )
        for row in batch.to_pylist()
    ]
    assert _keys(batch, kinds, 3) == expected


def test_lists_with_a_null_inside_and_parts_of_a_column_are_feasts(tmp_path: Path) -> None:
    view = view_of({"last": Array(Int64)})
    rows = OnlineTable.of("p_mine", view)
    whole = pa.table(
        {
            "user": pa.array(range(6), pa.int64()),
            "last": pa.array([[9], [1, 2], None, [], [3], [4, 5]], pa.list_(pa.int64())),
            "at": pa.array([AT] * 6, pa.timestamp("us", tz="UTC")),
        }
    )
    (part,) = whole.slice(1, 4).to_batches()
    kept = [row[3] for row in rows.rows_of_batch(part, view, 3)]
    assert [value and rows.protos((0, value), ["last"])[1]["last"].int64_list_val.val[:] for value in kept] == [
        [1, 2], None, b"", [3],
    ]  # fmt: skip


def test_a_value_of_another_type_is_refused_by_name(tmp_path: Path) -> None:
    view = view_of({"clicks": Int64, "rate": Float32})
    online = Online(tmp_path)
    with pytest.raises(RetrievalError, match="feature 'clicks' is declared INT64, a value is 'string_val'"):
        online.write(view, {1: {"clicks": Value(string_val="many")}})
    online.write(view, {1: {"rate": Value(int64_val=2)}})
    assert online.read(view, [1], ["rate"]) == [(AT, {"rate": Value(float_val=2.0)})]


def test_tables_of_feasts_layout_make_way(tmp_path: Path) -> None:
    """The file of an earlier exfm: it had Feast's tables, of a row a feature."""
    view = view_of({"clicks": Int64})
    before = Online(tmp_path, "sqlite")
    before.apply(view)
    before.write(view, {user: {"clicks": Value(int64_val=user)} for user in range(5_000)})
    before.store._conn.close()
    size = before.file.stat().st_size
    online = Online(tmp_path)
    with pytest.raises(RetrievalError, match="view 'mine' can't be read .no such table.*materialise online_store"):
        online.read(view, [1])
    online.apply(view)
    assert online.read(view, [1]) == [(None, None)]
    online.store._conn.close()
    assert online.file.stat().st_size < size / 10
    with sqlite3.connect(online.file) as connection:
        assert connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall() == [
            ("p_mine:rows",)
        ]


def test_a_block_that_asks_for_vectors_keeps_feasts_layout(tmp_path: Path) -> None:
    view = view_of({"clicks": Int64})
    online = Online(tmp_path, enable_openai_compatible_store=True)
    online.apply(view)
    online.write(view, {1: {"clicks": Value(int64_val=3)}})
    assert online.read(view, [1])[0][1] == {"clicks": Value(int64_val=3)}
    with sqlite3.connect(online.file) as connection:
        assert connection.execute("SELECT value_num FROM p_mine").fetchall() == [(3.0,)]


def test_who_reads_does_not_wait_for_who_writes(tmp_path: Path) -> None:
    view = view_of({"clicks": Int64})
    online = Online(tmp_path)
    online.write(view, {1: {"clicks": Value(int64_val=1)}})
    with sqlite3.connect(online.file, isolation_level=None) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        writer.execute('UPDATE "p_mine:rows" SET clicks = 2')
        assert online.read(view, [1])[0][1]["clicks"].int64_val == 1
        writer.execute("COMMIT")
    assert online.read(view, [1])[0][1]["clicks"].int64_val == 2


def test_a_file_that_was_made_anew_is_read_anew(tmp_path: Path) -> None:
    view = view_of({"clicks": Int64})
    server, loader = Online(tmp_path), Online(tmp_path)
    server.write(view, {1: {"clicks": Value(int64_val=1)}})
    server.file.unlink()
    loader.write(view, {1: {"clicks": Value(int64_val=2)}})
    assert server.read(view, [1])[0][1]["clicks"].int64_val == 2


def test_a_column_that_is_gone_is_an_error_not_its_name(tmp_path: Path) -> None:
    """SQLite takes a quoted name of no column for a text."""
    before = view_of({"clicks": Int64, "country": String})
    server, other = Online(tmp_path), Online(tmp_path)
    server.write(before, {1: {"clicks": Value(int64_val=1), "country": Value(string_val="DE")}})
    other.apply(view_of({"clicks": Int64}))
    with pytest.raises(RetrievalError, match="view 'mine' can't be read .no such column"):
        server.read(before, [1])


def test_threads_that_ask_at_once_get_a_connection_each_time(tmp_path: Path) -> None:
    view = view_of({"clicks": Int64})
    Online(tmp_path).write(view, {1: {"clicks": Value(int64_val=1)}})
    with ThreadPoolExecutor(8) as pool:
        for _ in range(40):
            online = Online(tmp_path)
            found = pool.map(lambda _, store=online: store.read(view, [1])[0][1]["clicks"].int64_val, range(8))
            assert list(found) == [1] * 8
