"""Histories that do not fit into memory are read along with entity rows that come in order of time.

That answers are right is shown beside brute force (test_asof_properties.py); here: which rows are held, and when DuckDB
answers instead.
"""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import FeatureStore

from feast_asof import answering, sweep
from feast_asof.connection import Engine
from feast_asof.sweep import Group, Pace
from tests.feature_repo.worlds import HISTORY, UTC_US, activity_view, at, make_store, write_history

LIMIT = 60_000  # bytes: of 5,000 rows some 300 fit
FEATURES = ["activity:clicks"]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FeatureStore:
    """A history of five days: 40 keys; each row is written up to two hours after what it is about."""
    rng, rows = Random(0), []
    for number in range(5_000):
        moment = at(number * 120 / 5_000)
        row = {"user_id": rng.randrange(20), "surface": rng.choice(["feed", "search"]), "event_timestamp": moment}
        written = moment + timedelta(minutes=rng.randrange(120))
        rows.append({**row, "created_timestamp": written, "clicks": number, "rate": 0.5})
    write_history(rows, tmp_path / "activity")
    monkeypatch.setattr(Engine, "limit", LIMIT)
    return make_store(tmp_path / "store", [activity_view(tmp_path / "activity")])


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows were arranged at once, each time."""
    counts: list[int] = []
    arrange = sweep.arrange

    def counted(*given: object, **more: object) -> object:
        counts.append(given[1].height)  # type: ignore[attr-defined]
        return arrange(*given, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(sweep, "arrange", counted)
    return counts


@pytest.fixture
def asked_of_duckdb(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    calls: list[int] = []
    in_duckdb = answering._in_duckdb

    def counted(*given: object, **more: object) -> object:
        calls.append(1)
        return in_duckdb(*given, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(answering, "_in_duckdb", counted)
    return calls


def entities(hours: list[float]) -> pa.Table:
    rng = Random(1)
    rows = [
        {"user_id": rng.randrange(22), "surface": rng.choice(["feed", "search"]), "event_timestamp": at(hour)}
        for hour in hours
    ]
    return pa.Table.from_pylist(
        rows, schema=pa.schema([HISTORY.field(0), HISTORY.field(1), ("event_timestamp", UTC_US)])
    )


def answers(store: FeatureStore, given: object, *, cutoff: bool, chunk: int = 20) -> list[pa.Table]:
    job = store.get_historical_features(given, FEATURES, full_feature_names=True, filter_by_created_timestamp=cutoff)
    return list(job.to_arrow_batches(chunk))


def in_memory(store: FeatureStore, given: object, *, cutoff: bool) -> pa.Table:
    store.config.offline_store.engine = "memory"
    try:
        return store.get_historical_features(
            given, FEATURES, full_feature_names=True, filter_by_created_timestamp=cutoff
        ).to_arrow()
    finally:
        store.config.offline_store.engine = "auto"


@pytest.mark.parametrize("cutoff", [False, True])
@pytest.mark.parametrize("form", ["table", "file", "select"])
def test_only_a_stretch_of_a_long_history_is_held(
    store: FeatureStore, tmp_path: Path, held: list[int], asked_of_duckdb: list[int], cutoff: bool, form: str
) -> None:
    table = entities([hour / 10 for hour in range(300, 1_100)])
    path = tmp_path / "with blank" / "entities.parquet"
    path.parent.mkdir()
    pq.write_table(table, path, row_group_size=70)
    select = f"SELECT * FROM read_parquet('{path}')"
    chunks = answers(store, {"table": table, "file": path, "select": select}[form], cutoff=cutoff)
    assert pa.concat_tables(chunks).equals(in_memory(store, table, cutoff=cutoff))
    assert not asked_of_duckdb
    assert len(held) > 10 and max(held) < 700 < sum(held)


def test_a_past_that_is_long_is_passed_in_steps(store: FeatureStore, held: list[int]) -> None:
    table = entities([119.5] * 60)
    assert pa.concat_tables(answers(store, table, cutoff=False)).equals(in_memory(store, table, cutoff=False))
    assert len(held) > 10 and max(held) < 700


@pytest.mark.parametrize("name, hours", [
    ("in no order", [float(hour) for hour in Random(3).sample(range(110), 100)]),
    ("back after a while", [*(30 + hour / 10 for hour in range(400)), *(5 + hour / 10 for hour in range(100))]),
])  # fmt: skip
def test_rows_that_are_in_no_order_are_answered_by_duckdb(
    store: FeatureStore, asked_of_duckdb: list[int], name: str, hours: list[float]
) -> None:
    table = entities(hours)
    assert pa.concat_tables(answers(store, table, cutoff=True)).equals(in_memory(store, table, cutoff=True)), name
    assert len(asked_of_duckdb) == 1


def test_more_keys_than_there_is_room_for_are_duckdbs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked_of_duckdb: list[int], held: list[int]
) -> None:
    """Each row is a key of its own, so that the newest rows of all are all rows."""
    row = {"surface": "feed", "rate": 0.1}
    rows = [
        {**row, "user_id": n, "event_timestamp": at(n / 50), "created_timestamp": at(n / 50), "clicks": n}
        for n in range(5_000)
    ]
    write_history(rows, tmp_path / "activity")
    monkeypatch.setattr(Engine, "limit", LIMIT)
    store = make_store(tmp_path / "store", [activity_view(tmp_path / "activity")])
    table = entities([hour / 10 for hour in range(1_000)])
    table = table.set_column(0, "user_id", pa.array(range(0, 5_000, 5), pa.int64()))
    chunks = answers(store, table, cutoff=True)
    assert pa.concat_tables(chunks).equals(in_memory(store, table, cutoff=True))
    assert len(asked_of_duckdb) == 1 and len(held) > 1 and max(held) < 700


def test_of_one_large_file_only_row_groups_that_can_matter_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked_of_duckdb: list[int]
) -> None:
    """As a large slice's predictions, of which each part asks for those of its own time."""
    moments = [at(n / 50) for n in range(5_000)]
    columns = {"user_id": [n % 20 for n in range(5_000)], "surface": ["feed"] * 5_000, "event_timestamp": moments}
    columns |= {"created_timestamp": moments, "clicks": list(range(5_000)), "rate": [0.5] * 5_000}
    (tmp_path / "activity").mkdir()
    path = tmp_path / "activity" / "part.parquet"
    pq.write_table(pa.table(columns, schema=HISTORY), path, row_group_size=100)
    monkeypatch.setattr(Engine, "limit", LIMIT)
    store = make_store(tmp_path / "store", [activity_view(tmp_path / "activity")])
    table = entities([40 + n / 100 for n in range(100)])
    job = store.get_historical_features(table, FEATURES, full_feature_names=True, filter_by_created_timestamp=True)
    part = job.of_rows_stamped(at(39), at(41)).to_arrow()  # type: ignore[attr-defined]
    assert not asked_of_duckdb
    assert part.equals(in_memory(store, table, cutoff=True).replace_schema_metadata(None))
    assert job.to_arrow().equals(part) and len(asked_of_duckdb) == 1
    pq.write_table(pa.table(columns, schema=HISTORY).slice(0, 2_100), path, row_group_size=2_100)  # another version
    assert job.of_rows_stamped(at(39), at(41)).to_arrow().num_rows == 100  # type: ignore[attr-defined]
    assert len(asked_of_duckdb) == 2


def test_a_reader_that_stops_early_ends_the_threads(store: FeatureStore) -> None:
    job = store.get_historical_features(entities([hour / 10 for hour in range(900)]), FEATURES, full_feature_names=True)
    chunks = job.to_arrow_batches(50)
    assert next(chunks).num_rows == 50
    chunks.close()  # type: ignore[attr-defined]


def test_a_pace_tells_how_far_bytes_reach() -> None:
    pace = Pace([Group(0, 0, 99, 1_000), Group(50, 50, 149, 1_000), Group(200, 200, 200, 500)])
    assert [pace.before(moment) for moment in (-1, 49, 99, 149, 199, 200)] == [0, 500, 1_500, 2_000, 2_000, 2_500]
    reach: Callable[[int, float], int] = lambda since, size: pace.reach(since, 300, size)  # noqa: E731
    assert [reach(-1, 500), reach(-1, 1_500), reach(149, 499), reach(149, 500)] == [49, 99, 199, 300]
    assert reach(199, 1) == 200  # rows of one moment are not parted
    assert pace.reach(10, 5, 1e9) == 11 and Pace([]).reach(0, 9, 1) == 9
