"""What the offline store refuses, each in one sentence; what it writes; which files it never opens."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import FeatureStore
from feast.errors import SavedDatasetLocationAlreadyExists
from feast.infra.offline_stores.file_source import SavedDatasetFileStorage

from feast_asof.connection import Engine, bytes_of
from feast_asof.errors import RetrievalError
from feast_asof.history import files_for
from feast_asof.plan import plan_view
from feast_asof.rows import Clock
from feast_asof.sql import join_query
from feast_asof.store import AsofOfflineStoreConfig
from tests.feature_repo.worlds import HISTORY, HOUR, UTC_US, activity_view, at, make_store, write_history

ASKED = pa.table({"user_id": [1], "surface": ["feed"], "event_timestamp": pa.array([at(8)], UTC_US)})
CLICKS = ["activity:clicks"]


def _rows(*hours: float) -> list[dict[str, object]]:
    return [
        {
            "user_id": 1,
            "surface": "feed",
            "event_timestamp": at(h),
            "created_timestamp": at(h),
            "clicks": int(h),
            "rate": 0.5,
        }
        for h in hours
    ]


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    write_history(_rows(1, 7), tmp_path / "files")
    return make_store(tmp_path, [activity_view(tmp_path / "files")])


def _ask(store: FeatureStore, entity_rows: pa.Table | pd.DataFrame | str | None, **options: object) -> pa.Table:
    return store.get_historical_features(entity_rows, CLICKS, **options).to_arrow()


def test_a_missing_entity_column(store: FeatureStore) -> None:
    with pytest.raises(RetrievalError, match="no column 'surface', which keys view 'activity': add it"):
        _ask(store, ASKED.drop_columns("surface"))


@pytest.mark.parametrize("given", [ASKED, ASKED.to_pandas()])
def test_a_key_of_another_type(store: FeatureStore, given: pa.Table | pd.DataFrame) -> None:
    if isinstance(given, pa.Table):
        given = given.set_column(0, "user_id", pa.array(["1"]))
    else:
        given = given.assign(user_id="1")
    with pytest.raises(RetrievalError, match="key 'user_id' is string, but int64 in .* cast it to integer"):
        _ask(store, given)


def test_a_column_with_the_name_of_a_feature(store: FeatureStore) -> None:
    clash = ASKED.append_column("clicks", pa.array([1]))
    with pytest.raises(RetrievalError, match="column 'clicks' has the name of a feature of view 'activity'"):
        _ask(store, clash)
    assert _ask(store, clash, full_feature_names=True)["activity__clicks"].to_pylist() == [7]


def test_no_clock(store: FeatureStore) -> None:
    with pytest.raises(RetrievalError, match="'event_timestamp' is string, not a timestamp"):
        _ask(store, "SELECT 1 AS user_id, 'feed' AS surface, '2026-01-01' AS event_timestamp")
    with pytest.raises(RetrievalError, match="0 timestamp columns"):
        _ask(store, "SELECT 1 AS user_id, 'feed' AS surface")
    with pytest.raises(RetrievalError, match="start_date: .* is after end_date"):
        store.get_historical_features(None, CLICKS, start_date=at(1), end_date=at(0))


def test_no_files(tmp_path: Path) -> None:
    store = make_store(tmp_path, [activity_view(tmp_path / "nothing")])
    with pytest.raises(RetrievalError, match="view 'activity': no parquet file matches .*nothing.*materialise"):
        _ask(store, ASKED)


@pytest.mark.parametrize("hours", [(1, 7), (7, 1)])
def test_a_feature_of_another_type_in_any_file(store: FeatureStore, tmp_path: Path, hours: tuple[int, int]) -> None:
    """The wrong file may be the first or the last; a number in a string would be cast in silence."""
    changed = pa.schema([f.with_type(pa.string()) if f.name == "clicks" else f for f in HISTORY])
    row = {**_rows(hours[0])[0], "clicks": "12"}
    write_history([row], tmp_path / "files", changed)
    with pytest.raises(RetrievalError, match="feature column 'clicks' is string in .* but declared Int64"):
        _ask(store, ASKED)


def test_a_feature_that_no_file_has(store: FeatureStore, tmp_path: Path) -> None:
    write_history(_rows(13), tmp_path / "files", pa.schema([f for f in HISTORY if f.name != "clicks"]))
    with pytest.raises(RetrievalError, match="column 'clicks' is not in"):
        _ask(store, ASKED)


def test_a_narrower_integer_is_returned_as_declared(tmp_path: Path) -> None:
    narrow = pa.schema([f.with_type(pa.int16()) if f.name == "clicks" else f for f in HISTORY])
    write_history(_rows(1), tmp_path / "files", narrow)
    write_history([{**_rows(7)[0], "clicks": 2**40}], tmp_path / "files")
    store = make_store(tmp_path, [activity_view(tmp_path / "files")])
    clicks = _ask(store, ASKED)["clicks"]
    assert (clicks.type, clicks.to_pylist()) == (pa.int64(), [2**40])


def test_unfinished_files_are_not_seen(store: FeatureStore, tmp_path: Path) -> None:
    (tmp_path / "files" / "slice=1" / ".part.parquet").write_bytes(b"half")
    assert _ask(store, ASKED)["clicks"].to_pylist() == [7]


def test_a_file_written_again_is_read_again(store: FeatureStore, tmp_path: Path) -> None:
    """Its time range is remembered by what the file is, not by its path."""
    entity_rows = ASKED.set_column(2, "event_timestamp", pa.array([at(5)], UTC_US))
    assert _ask(store, entity_rows)["clicks"].to_pylist() == [1]
    path = tmp_path / "files" / "slice=1" / "part.parquet"
    unfinished = path.with_name(".aside")
    pq.write_table(pa.Table.from_pylist(_rows(4), schema=HISTORY), unfinished)
    unfinished.replace(path)
    assert _ask(store, entity_rows)["clicks"].to_pylist() == [4]


def test_only_files_that_can_matter_are_named_in_the_query(store: FeatureStore, tmp_path: Path) -> None:
    write_history(_rows(1, 7, 13, 19, 25), tmp_path / "files")
    view = activity_view(tmp_path / "files", ttl=2 * HOUR)
    types = {"user_id": pa.int64(), "surface": pa.string(), "event_timestamp": UTC_US}
    plan = plan_view(view, ["clicks"], full_names=False, types=types, repo_path=None)
    micros = int(at(14).timestamp() * 1e6)
    clock = Clock(micros, micros + 1, {"user_id": (1, 1)})
    query = join_query([plan], list(types), clock, cutoff=True)
    named = [f"slice={index}/" in query for index in range(5)]
    assert named == [False, False, True, False, False]
    assert "s0 BETWEEN 1 AND 1" in query
    assert [f"slice={index}/" in str(files_for(plan, clock, cutoff=True)) for index in range(5)] == named
    assert len(plan.source.files) == 5


def test_persist(store: FeatureStore, tmp_path: Path) -> None:
    job = store.get_historical_features(ASKED, CLICKS)
    storage = SavedDatasetFileStorage(path=str(tmp_path / "saved" / "set.parquet"))
    job.persist(storage)
    assert pq.read_table(tmp_path / "saved" / "set.parquet").equals(job.to_arrow())
    with pytest.raises(SavedDatasetLocationAlreadyExists):
        job.persist(storage)
    job.persist(storage, allow_overwrite=True)
    assert [path.name for path in (tmp_path / "saved").iterdir()] == ["set.parquet"]


@pytest.mark.parametrize("form", ["folder", "glob", "file"])
def test_written_batches_are_read(tmp_path: Path, form: str) -> None:
    folder = tmp_path / "files"
    source = {"folder": folder, "glob": folder / "slice=*" / "part.parquet", "file": folder / "all.parquet"}[form]
    write_history(_rows(1), folder)
    if form == "file":
        pq.write_table(pa.Table.from_pylist(_rows(1), schema=HISTORY), source)
    store = make_store(tmp_path, [activity_view(source)])
    batch = pa.Table.from_pylist(_rows(7), schema=HISTORY).to_pandas()
    store.write_to_offline_store("activity", batch)
    before = sorted(folder.rglob("*"))
    assert _ask(store, ASKED)["clicks"].to_pylist() == [7]
    if form != "file":
        store.write_to_offline_store("activity", batch)
        assert sorted(folder.rglob("*")) == before


def test_online_values_never_go_back_in_time(tmp_path: Path) -> None:
    from feature_repo.store import load_online

    write_history(_rows(1, 7, 13), tmp_path / "files")
    store = make_store(tmp_path, [activity_view(tmp_path / "files")])
    load_online(store, ["activity"], at(6), at(14))
    load_online(store, ["activity"], at(0), at(6))
    online = store.get_online_features(CLICKS, [{"user_id": 1, "surface": "feed"}]).to_dict()
    assert online["clicks"] == [13]


def test_pull_all_is_ordered_and_complete(store: FeatureStore) -> None:
    view = store.get_feature_view("activity")
    offline = store._get_provider().offline_store
    columns = (view.batch_source, ["user_id", "surface"], ["clicks"], "event_timestamp", "created_timestamp")
    both = offline.pull_all_from_table_or_query(store.config, *columns, at(1), at(7)).to_arrow()
    assert both["clicks"].to_pylist() == [1, 7]
    latest = offline.pull_latest_from_table_or_query(store.config, *columns, at(0), at(6)).to_arrow()
    assert latest["clicks"].to_pylist() == [1]


def test_columns_of_no_one_type(store: FeatureStore) -> None:
    frame = pd.concat([ASKED.to_pandas().assign(label=label) for label in (1, "one")], ignore_index=True)
    with pytest.raises(RetrievalError, match="label.*give each column one type"):
        _ask(store, frame)
    with pytest.raises(RetrievalError, match="entity rows: a list: pass a pandas or polars frame"):
        _ask(store, [1, 2])
    with pytest.raises(RetrievalError, match="'SELECT nothing': .*nothing"):
        _ask(store, "SELECT nothing")
    with pytest.raises(RetrievalError, match="DuckDB refused 'no/such.parquet'"):
        _ask(store, "no/such.parquet")


def test_settings() -> None:
    assert [bytes_of(size) for size in ("4GB", "1.5 KiB", "100")] == [4 * 10**9, 1536, 100]
    engine = Engine(memory_limit="1MB")
    assert [engine.choose(10**6), engine.choose(10**6 + 1)] == ["memory", "duckdb"]
    assert Engine(kind="duckdb").choose(1) == "duckdb" and Engine().limit > 2**28
    with pytest.raises(ValueError, match="memory_limit: 'much' is not a size: write for example 4GB"):
        AsofOfflineStoreConfig(memory_limit="much")


def test_auto_leaves_memory_when_the_views_do_not_fit(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[str] = []
    choose = Engine.choose
    monkeypatch.setattr(Engine, "choose", lambda self, needed: taken.append(choose(self, needed)) or taken[-1])
    for limit in (2**40, 1):
        monkeypatch.setattr(Engine, "limit", property(lambda _self, limit=limit: limit))
        assert _ask(store, ASKED)["clicks"].to_pylist() == [7]
    assert taken == ["memory", "duckdb"]


def test_many_threads_ask_at_once(store: FeatureStore, tmp_path: Path) -> None:
    write_history(_rows(*range(24)), tmp_path / "files")

    def ask(hour: int) -> list[int | None]:
        clock = pa.array([at(hour)], UTC_US)
        answer: list[int | None] = _ask(store, ASKED.set_column(2, "event_timestamp", clock))["clicks"].to_pylist()
        return answer

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, [*range(24)] * 4)) == [[hour] for hour in range(24)] * 4


@pytest.mark.parametrize("column", ["event_timestamp", "created_timestamp"])
def test_a_clock_that_is_no_timestamp(tmp_path: Path, column: str) -> None:
    write_history(_rows(1), tmp_path / "files")
    path = next((tmp_path / "files").rglob("*.parquet"))
    table = pq.read_table(path, partitioning=None)
    for wrong in (pa.array(["2026-01-01"]), pa.array([1])):
        pq.write_table(table.set_column(table.column_names.index(column), column, wrong), path)
        store = make_store(tmp_path, [activity_view(tmp_path / "files")])
        with pytest.raises(RetrievalError, match=f"clock column '{column}' is .*: write it as a timestamp"):
            _ask(store, ASKED)


def test_repeated_columns(store: FeatureStore) -> None:
    twice = ASKED.append_column("user_id", ASKED["user_id"])
    for given in (twice, pd.concat([ASKED.to_pandas(), ASKED.to_pandas()[["user_id"]]], axis=1)):
        with pytest.raises(RetrievalError, match="columns \\['user_id'\\] are there twice"):
            _ask(store, given)


@pytest.mark.parametrize("engine", ["memory", "duckdb"])
def test_unsigned_and_far_away(tmp_path: Path, engine: str) -> None:
    """Ids beyond 63 bits against signed ones, and moments that Python's dates do not reach."""
    write_history(_rows(1), tmp_path / "files")
    path = next((tmp_path / "files").rglob("*.parquet"))
    table = pq.read_table(path, partitioning=None).take(pa.array([0, 0]))
    seconds = pa.array([2**38, int(at(1).timestamp())]).cast(pa.timestamp("s"))
    table = table.set_column(0, "user_id", pa.array([2**64 - 1, 5], pa.uint64())).set_column(
        2, "event_timestamp", seconds
    )
    pq.write_table(table, path)
    store = make_store(tmp_path, [activity_view(tmp_path / "files")])
    store.config.offline_store.engine = engine
    entity_rows = pa.table(
        {"user_id": [-1, 5], "surface": ["feed"] * 2, "event_timestamp": pa.array([at(5)] * 2, UTC_US)}
    )
    assert _ask(store, entity_rows)["clicks"].to_pylist() == [None, 1]
