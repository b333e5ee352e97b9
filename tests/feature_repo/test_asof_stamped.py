"""Answers from rows that are stamped in a stretch of time: as if the views had no others, in every engine."""

from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feast_asof.connection import Engine
from feast_asof.errors import RetrievalError
from feast_asof.job import AsofRetrievalJob
from tests.feature_repo.worlds import HISTORY, UTC_US, activity_view, at, make_store, random_world, write_history


def world_of(seed: int) -> tuple[list[dict[str, object]], pa.Table]:
    """A history without ties, hours 0 to 15, and entity rows."""
    world = random_world(seed)
    names = ("user_id", "surface", "event_timestamp", "created_timestamp")
    history = {tuple(str(row[name]) for name in names): row for row in world.history}
    schema = pa.schema([
        ("user_id", pa.int64()), ("surface", pa.string()), ("event_timestamp", UTC_US), ("label", pa.int64())
    ])  # fmt: skip
    return list(history.values()), pa.Table.from_pylist(world.entities, schema=schema)


@pytest.mark.parametrize("engine", ["memory", "duckdb"])
@pytest.mark.parametrize("ttl", [pytest.param(timedelta(0), marks=pytest.mark.slow), timedelta(hours=6)])
def test_other_rows_are_as_if_they_were_not_there(tmp_path: Path, engine: str, ttl: timedelta) -> None:
    first, last, differing = at(4), at(10), 0
    for seed in range(1, 9):
        rows, entities = world_of(seed)
        answers = []
        for name in ("all", "some"):
            folder = tmp_path / f"{name}-{seed}"
            write_history([row for row in rows if name == "all" or first <= row["event_timestamp"] <= last], folder)
            if not folder.exists():
                continue  # none is stamped then
            store = make_store(tmp_path / f"store-{name}-{seed}", [activity_view(folder, ttl=ttl)])
            store.config.offline_store.engine = engine
            job = store.get_historical_features(
                entities, ["activity:clicks", "activity:rate"], filter_by_created_timestamp=True
            )
            if name == "all":
                unbound = job.to_arrow()
                job = job.of_rows_stamped(first, last)
                differing += not unbound.equals(job.to_arrow())
            answers += [job.to_arrow(), pa.concat_tables(job.to_arrow_batches(3))]
        assert all(answer.equals(answers[0]) for answer in answers), seed
    assert differing


def test_files_of_other_times_are_not_read(tmp_path: Path) -> None:
    rows, entities = world_of(1)
    write_history(rows, tmp_path / "rows")
    damaged = tmp_path / "rows" / "slice=later" / "part.parquet"
    damaged.parent.mkdir()
    later = [{**row, "event_timestamp": row["event_timestamp"] + timedelta(days=400)} for row in rows]
    pq.write_table(pa.Table.from_pylist(later, schema=HISTORY), damaged)
    content = bytearray(damaged.read_bytes())
    pages = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    content[4:pages] = b"\xff" * (pages - 4)  # its footer is right, its pages are not
    damaged.write_bytes(bytes(content))
    store = make_store(tmp_path / "store", [activity_view(tmp_path / "rows")])
    moments = pa.array([at(24 * 900)] * entities.num_rows, UTC_US)
    entities = entities.set_column(entities.column_names.index("event_timestamp"), "event_timestamp", moments)
    job = store.get_historical_features(entities, ["activity:clicks"])
    assert job.of_rows_stamped(at(0), at(24 * 300)).to_arrow().num_rows == entities.num_rows
    with pytest.raises(Exception, match=r"(?i)parquet|page|decod|thrift|level"):
        job.to_arrow()


def test_an_answer_of_other_kinds_has_no_stamps_to_bound() -> None:
    job = AsofRetrievalJob(lambda _session, _size: iter(()), Engine())
    with pytest.raises(RetrievalError, match="no historical retrieval"):
        job.of_rows_stamped(at(0), at(1))
