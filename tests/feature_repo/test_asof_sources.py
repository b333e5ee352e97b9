"""Sources other than plain local files: Delta tables, an object store, hive folders; and what of them is not read."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest
from feast import FeatureStore
from feast.data_format import DeltaFormat
from feast.infra.offline_stores.file_source import SavedDatasetFileStorage

from feast_asof.errors import RetrievalError
from feast_asof.files import list_files
from feast_asof.locations import place_of
from tests.feature_repo.worlds import HISTORY, HOUR, UTC_US, activity_view, at, make_store

deltalake = pytest.importorskip("deltalake")
ENGINES = ("memory", "duckdb")


def _history(*rows: tuple[int, str, float, int]) -> pa.Table:
    dicts = [
        {"user_id": u, "surface": s, "event_timestamp": at(h), "created_timestamp": at(h), "clicks": c, "rate": 0.5}
        for u, s, h, c in rows
    ]
    return pa.Table.from_pylist(dicts, schema=HISTORY)


ROWS = _history((1, "feed", 1, 10), (1, "feed", 3, 30), (1, "search", 2, 20), (2, "feed", 8, 80))
ASKED = pa.table(
    {
        "user_id": [1, 1, 2, 2],
        "surface": ["feed", "search", "feed", "search"],
        "event_timestamp": pa.array([at(2), at(4), at(9), at(9)], UTC_US),
    }
)
ANSWER = [10, 20, 80, None]


def _clicks(store: FeatureStore, engine: str, entity_rows: pa.Table = ASKED) -> list[int | None]:
    store.config.offline_store.engine = engine
    job = store.get_historical_features(entity_rows, ["activity:clicks"])
    answer: list[int | None] = job.to_arrow()["clicks"].to_pylist()
    assert pa.concat_tables(job.to_arrow_batches(2))["clicks"].to_pylist() == answer
    return answer


@pytest.mark.parametrize("partition_by", [None, ["surface"], ["surface", "user_id"]])
def test_a_delta_table(tmp_path: Path, partition_by: list[str] | None) -> None:
    path = tmp_path / "table"
    deltalake.write_deltalake(str(path), ROWS.slice(0, 1), partition_by=partition_by)
    deltalake.write_deltalake(str(path), ROWS.slice(1), mode="append")
    store = make_store(tmp_path, [activity_view(path, file_format=DeltaFormat())])
    for engine in ENGINES:
        assert _clicks(store, engine) == ANSWER
    deltalake.DeltaTable(str(path)).delete("clicks = 10")
    deltalake.DeltaTable(str(path)).optimize.compact()
    for engine in ENGINES:
        assert _clicks(store, engine) == [None, 20, 80, None]
    later = _history((1, "feed", 1.5, 15))
    store.write_to_offline_store("activity", later.to_pandas())
    assert _clicks(store, "memory") == [15, 20, 80, None]
    store.materialize(at(0), at(10))
    online = store.get_online_features(["activity:clicks"], [{"user_id": 1, "surface": "feed"}])
    assert online.to_dict()["clicks"] == [30]


def test_a_delta_table_that_hides_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "table")
    deltalake.write_deltalake(path, ROWS)
    store = make_store(tmp_path, [activity_view(Path(path), file_format=DeltaFormat())])
    protocol = deltalake.DeltaTable(path).protocol()._replace(reader_features=["deletionVectors"])
    with monkeypatch.context() as patch:
        patch.setattr(deltalake.DeltaTable, "protocol", lambda _table: protocol)
        with pytest.raises(RetrievalError, match="uses \\['deletionVectors'\\].*purge"):
            _clicks(store, "memory")
    missing = make_store(tmp_path / "b", [activity_view(tmp_path / "nowhere", file_format=DeltaFormat())])
    with pytest.raises(RetrievalError, match="no Delta table at .*nowhere"):
        _clicks(missing, "memory")


@pytest.mark.parametrize("engine", ENGINES)
def test_folders_hold_a_key(tmp_path: Path, engine: str) -> None:
    """Both keys, a text and a number, are there only in the names of hive folders."""
    for index in range(ROWS.num_rows):
        row = ROWS.slice(index, 1)
        user, surface = row["user_id"][0].as_py(), row["surface"][0].as_py()
        path = tmp_path / "files" / f"user_id={user}" / f"surface={surface}" / f"{index}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(row.drop_columns(["user_id", "surface"]), path)
    store = make_store(tmp_path, [activity_view(tmp_path / "files")])
    assert _clicks(store, engine) == ANSWER
    window = store.get_historical_features(None, ["activity:clicks"], start_date=at(0), end_date=at(9)).to_arrow()
    assert window.select(["user_id", "surface", "clicks"]).to_pylist() == [
        {"user_id": 1, "surface": "feed", "clicks": 30},
        {"user_id": 2, "surface": "feed", "clicks": 80},
        {"user_id": 1, "surface": "search", "clicks": 20},
    ]


def test_row_groups_that_can_not_matter_are_not_read(tmp_path: Path) -> None:
    """The pages of the other row group are destroyed: whoever reads them fails."""
    rows = _history(*[(1, "feed", hour, hour) for hour in range(200)])
    path = tmp_path / "files" / "a.parquet"
    path.parent.mkdir()
    pq.write_table(rows, path, row_group_size=100, use_dictionary=False, compression="NONE")
    groups = pq.read_metadata(path)
    first, last = (groups.row_group(1).column(i) for i in (0, groups.num_columns - 1))
    start, end = first.data_page_offset, last.data_page_offset + last.total_compressed_size
    content = path.read_bytes()
    path.write_bytes(content[:start] + b"\xff" * (end - start) + content[end:])
    store = make_store(tmp_path, [activity_view(path.parent)])
    early = pa.table({"user_id": [1], "surface": ["feed"], "event_timestamp": pa.array([at(50)], UTC_US)})
    late = early.set_column(2, "event_timestamp", pa.array([at(150)], UTC_US))
    assert _clicks(store, "memory", early) == [50]
    with pytest.raises(RetrievalError, match="view 'activity': its files can't be read"):
        _clicks(store, "memory", late)


def test_only_asked_columns_are_read(tmp_path: Path) -> None:
    rows = ROWS.append_column("broken", pa.array(["x" * 1000] * 4))
    path = tmp_path / "files" / "a.parquet"
    path.parent.mkdir()
    pq.write_table(rows, path, use_dictionary=False, compression="NONE")
    column = pq.read_metadata(path).row_group(0).column(rows.num_columns - 1)
    content = bytearray(path.read_bytes())
    start = column.data_page_offset
    content[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(bytes(content))
    store = make_store(tmp_path, [activity_view(path.parent)])
    assert _clicks(store, "memory") == ANSWER


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A store that speaks S3, on loopback, in this process; it ends with the module."""
    server_module = pytest.importorskip("moto.server")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        names = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
        for name, value in names.items():
            patch.setenv(name, value)
        endpoint = f"http://{host}:{port}"
        system = place_of("s3://x", endpoint=endpoint).system
        assert isinstance(system, pafs.S3FileSystem)
        making = {"endpoint_override": f"{host}:{port}", "scheme": "http", "allow_bucket_creation": True}
        pafs.S3FileSystem(**making).create_dir("bucket")
        for index in range(ROWS.num_rows):
            pq.write_table(ROWS.slice(index, 1), f"bucket/activity/slice={index}/part.parquet", filesystem=system)
        pq.write_table(ROWS.slice(0, 1), "bucket/activity/.hidden.parquet", filesystem=system)
        yield endpoint
    server.stop()


@pytest.mark.parametrize(
    "path", ["s3://bucket/activity", "s3://bucket/activity/*/part.parquet", "s3://bucket/activity/**/*.parquet"]
)
def test_an_object_store(tmp_path: Path, bucket: str, path: str) -> None:
    view = activity_view(Path("x"), ttl=100 * HOUR)
    view.batch_source.file_options.uri = path
    view.batch_source.file_options.s3_endpoint_override = bucket
    store = make_store(tmp_path, [view])
    for engine in ENGINES:
        assert _clicks(store, engine) == ANSWER
    _, files = list_files(view.batch_source, path, view="activity")
    assert [file.partitions for file in files] == [{"slice": str(index)} for index in range(4)]
    store.materialize(at(0), at(10))
    online = store.get_online_features(["activity:clicks"], [{"user_id": 1, "surface": "feed"}])
    assert online.to_dict()["clicks"] == [30]


def test_writing_to_an_object_store(tmp_path: Path, bucket: str) -> None:
    view = activity_view(Path("x"))
    view.batch_source.file_options.uri = "s3://bucket/written/"
    view.batch_source.file_options.s3_endpoint_override = bucket
    store = make_store(tmp_path, [view])
    with pytest.raises(RetrievalError, match="no parquet file matches its source 's3://bucket/written/'"):
        _clicks(store, "memory")
    system = place_of("s3://bucket", endpoint=bucket).system
    pq.write_table(ROWS.slice(0, 2), "bucket/written/first.parquet", filesystem=system)
    store.write_to_offline_store("activity", ROWS.slice(2).to_pandas())
    assert _clicks(store, "memory") == ANSWER
    storage = SavedDatasetFileStorage(path="s3://bucket/saved/set.parquet", s3_endpoint_override=bucket)
    store.create_saved_dataset(store.get_historical_features(ASKED, ["activity:clicks"]), "saved", storage)
    assert store.get_saved_dataset("saved")._retrieval_job.to_arrow()["clicks"].to_pylist() == ANSWER
    system = place_of("s3://bucket", endpoint=bucket).system
    names = [info.path for info in system.get_file_info(pafs.FileSelector("bucket/saved", recursive=True))]
    assert names == ["bucket/saved/set.parquet"]


def test_delta_on_an_object_store(tmp_path: Path, bucket: str) -> None:
    options = {"AWS_ENDPOINT_URL": bucket, "AWS_ALLOW_HTTP": "true"}
    deltalake.write_deltalake("s3://bucket/delta", ROWS, storage_options=options, partition_by=["surface"])
    view = activity_view(Path("x"), file_format=DeltaFormat())
    view.batch_source.file_options.uri = "s3://bucket/delta"
    view.batch_source.file_options.s3_endpoint_override = bucket
    store = make_store(tmp_path, [view])
    for engine in ENGINES:
        assert _clicks(store, engine) == ANSWER


def test_a_scheme_without_file_system(tmp_path: Path) -> None:
    view = activity_view(Path("x"))
    view.batch_source.file_options.uri = "ftp://host/files"
    store = make_store(tmp_path, [view])
    with pytest.raises(RetrievalError, match="path 'ftp://host/files': no file system for 'ftp'"):
        _clicks(store, "memory")
